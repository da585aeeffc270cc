// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"strings"
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestConfigAddress(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Must(m.Write("config", map[string]any{"environment": "test", "url": client.TestURL + "/", "nip": enginetest.NIP}))
		for _, write := range []map[string]any{{"url": ""}, {"url": nil, "environment": "test"}, {"environment": "", "url": client.TestURL}} {
			m.Must(m.Write("config", write))
			require.Equal(t, "test", m.Must(m.Read("config", nil)).Data["environment"])
		}
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"environment": "demo", "url": client.TestURL})), "url: is not the address of environment")
		for _, write := range []map[string]any{{"environment": ""}, {"environment": nil, "url": ""}} {
			require.Contains(t, m.Refused(m.Write("config", write)), "environment: is missing")
		}
		m.Must(m.Write("config", map[string]any{"environment": "", "url": enginetest.URL}))
		m.Must(m.Write("config", map[string]any{"environment": ""}))
		require.Equal(t, enginetest.URL, m.Must(m.Read("config", nil)).Data["url"])
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"url": nil})), "environment: is missing")
	})
}

func TestConfigContext(t *testing.T) {
	t.Run("unset_is_the_certificates_own", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, m *enginetest.Mount) {
			for _, unset := range []any{nil, ""} {
				m.Must(m.Write("config", map[string]any{"nip": enginetest.SecondNIP}))
				m.Must(m.Write("config", map[string]any{"nip": unset}))
				require.Equal(t, enginetest.NIP, m.Must(m.Read("config", nil)).Data["nip"])
				m.Must(m.Write("config", map[string]any{"nip": unset, "internal_id": enginetest.UnitID}))
				require.Equal(t, enginetest.UnitID, m.Must(m.Read("config", nil)).Data["internal_id"])
				m.Must(m.Write("config", map[string]any{"nip": unset}))
				require.Equal(t, enginetest.UnitID, m.Must(m.Read("config", nil)).Data["internal_id"], "there is no nip to unset")
				m.Must(m.Write("config", map[string]any{"nip": enginetest.SecondNIP, "internal_id": unset}))
				require.NotContains(t, m.Must(m.Read("config", nil)).Data, "internal_id")
			}
		})
	})
	t.Run("cannot_be_unset_without_one", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"nip": ""})), "nip: is missing, and there is no certificate")
		})
	})
}

func TestConfigComputed(t *testing.T) {
	t.Run("ignored", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			stored, logins := m.Stored("config"), m.Requests(enginetest.SubmitEndpoint)
			response := m.Must(m.Write("config", map[string]any{
				"certificate_days_left": 3, "signer_name": "Accounting", "certificate_not_after": "2001-01-01T00:00:00Z", "session_until": "", "signing": "certificate",
			}))
			require.Empty(t, response.Warnings)
			require.Equal(t, stored, m.Stored("config"))
			require.Equal(t, logins, m.Requests(enginetest.SubmitEndpoint))
		})
	})
	t.Run("session_until_of_a_person", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
			read := m.ReadJSON("config")
			require.Contains(t, read, "session_until")
			require.Empty(t, m.Must(m.Write("config", read)).Warnings)
			require.Equal(t, read, m.ReadJSON("config"))
		})
	})
	t.Run("signing_that_differs_is_refused", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			text := m.Refused(m.Write("config", map[string]any{"signing": "external"}))
			require.Contains(t, text, "signing: would be certificate after this write; ")
			require.Contains(t, text, "for external, delete config and write it anew without a certificate")
		})
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			text := m.Refused(m.Write("config", map[string]any{"signing": "certificate"}))
			require.Contains(t, text, "signing: would be external after this write; ")
			fields := m.ConfigFields()
			fields["signing"] = "certificate"
			m.Must(m.Write("config", fields))
		})
	})
	t.Run("described_as_read_only", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			fields := m.Route("config").Fields
			require.NotEmpty(t, ksef.ConfigComputed())
			for field := range ksef.ConfigComputed() {
				require.Contains(t, fields[field].Description, "Read only", field)
			}
			for field := range m.Must(m.Read("config", nil)).Data {
				require.Contains(t, fields, field)
			}
		})
	})
}

func TestConfigCertificateWithoutItsKey(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issuer, _ := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		leaf := m.Cert
		m.Cert += issuer
		m.Configure()
		stored, logins := m.Stored("config"), m.Requests(enginetest.SubmitEndpoint)
		for _, same := range []string{m.Cert, issuer + leaf, "subject=one\n" + strings.ReplaceAll(m.Cert, "\n", "\r\n")} {
			m.Must(m.Write("config", map[string]any{"certificate": same, "private_key": "", "pkcs12": nil}))
		}
		require.Equal(t, stored, m.Stored("config"))
		require.Equal(t, logins, m.Requests(enginetest.SubmitEndpoint))
		for _, other := range []string{leaf, issuer, m.Cert + issuer} {
			text := m.Refused(m.Write("config", map[string]any{"certificate": other}))
			require.Contains(t, text, "private_key: is missing, and certificate is not the one in force")
		}
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"certificate": m.Cert, "url": otherURL})),
			"url: leads to another KSeF", "a certificate alone proves nothing")
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"certificate": m.Cert, "private_key_password": "x"})), "private_key: is missing")
	})
	enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"certificate": m.Cert})), "private_key: is missing")
	})
}

// Fields that were written with a credential stay when it is written again.
func TestConfigCredentialGivenAgain(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"subject_identifier_type": "certificateFingerprint", "verify": false}))
		stored := m.Stored("config")
		fields := m.ConfigFields()
		fields["verify"] = false
		m.Must(m.Write("config", fields))
		require.Equal(t, stored, m.Stored("config"))
	})
	t.Run("after_it_has_expired", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			certificate, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP, NotAfter: time.Now().Add(24 * time.Hour)})
			document := map[string]any{"certificate": certificate, "private_key": key}
			m.Must(m.Write("config", document))
			m.Elapse(48 * time.Hour)
			m.Must(m.Write("config", document))
			other, otherKey := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"certificate": other, "private_key": otherKey})), "certificate: expired at")
		})
	})
}

func TestRoleWrittenAndRead(t *testing.T) {
	order := []string{"InvoiceWrite", "CredentialsRead", "InvoiceRead"}
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": append(order, "InvoiceWrite"), "internal_id": enginetest.UnitID}))
		require.Equal(t, order, m.Must(m.Read("roles/invoices", nil)).Data["permissions"])
		issued := m.Must(m.Read("creds/invoices", nil))
		require.Equal(t, order, issued.Data["permissions"])
		require.Equal(t, order, m.KSeF.State().Tokens[0].RequestedPermissions)
		require.Equal(t, enginetest.UnitID, m.KSeF.State().Tokens[0].ContextIdentifier.Value)
		issued = m.Must(m.Write("tokens", map[string]any{"permissions": order, "description": "Report"}))
		require.Equal(t, order, issued.Data["permissions"])

		m.Must(m.Write("roles/invoices", map[string]any{"internal_id": nil, "description": "", "ttl": "", "max_ttl": nil}))
		require.Equal(t, map[string]any{
			"permissions": order, "description": "Vault role {{.RoleName}}", "ttl": int64(0), "max_ttl": int64(0),
		}, m.Must(m.Read("roles/invoices", nil)).Data)
		reference := m.Must(m.Read("creds/invoices", nil)).Data["reference_number"]
		for _, token := range m.KSeF.State().Tokens {
			if token.ReferenceNumber == reference {
				require.Equal(t, enginetest.NIP, token.ContextIdentifier.Value, "config's context")
			}
		}
		for _, unset := range []any{nil, "", []any{}} {
			require.Contains(t, m.Refused(m.Write("roles/invoices", map[string]any{"permissions": unset})), "permissions: is empty")
		}
	})
}
