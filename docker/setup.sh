#!/bin/sh
# Registers, mounts and configures the engine in the Vault of docker-compose.yml. May run again on a Vault it has set up.
set -eu

plugin=vault-plugin-secrets-ksef
sha256=$(sha256sum "/plugins/$plugin" | cut -d ' ' -f 1)
vault plugin register -sha256="$sha256" secret "$plugin"
vault secrets list | grep -q '^ksef/ ' || vault secrets enable -path=ksef "$plugin"

cd "$(mktemp -d)"
/plugins/ksef-simulator certificate --nip 5265877635 --key ec --out-cert cert.pem --out-key key.pem
vault write ksef/config url=https://ksef:8380/v2 ca_certificate=@/shared/ca.pem \
  nip=5265877635 certificate=@cert.pem private_key=@key.pem
vault write ksef/roles/invoices permissions=InvoiceRead,InvoiceWrite ttl=1h max_ttl=24h

echo "Ready: VAULT_ADDR=http://127.0.0.1:8200 VAULT_TOKEN=root vault read ksef/creds/invoices"
