// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
)

const fieldCACertificate = "ca_certificate"

// api identifies the KSeF that config leads to: its address, and the authorities that config trusts
// besides the system's own. Whoever may change either could lead requests elsewhere.
func (c *config) api() string {
	if c.CACertificate == "" {
		return c.URL
	}
	return c.URL + " with " + fieldCACertificate + " " + authoritiesDigest(c.CACertificate)
}

// authoritiesDigest depends on the certificates alone, not on how their PEM is laid out.
func authoritiesDigest(text string) string {
	digest := sha256.New()
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		digest.Write(sum[:])
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}

// bindCredential refuses to let the stored credential sign for another KSeF than it was given for.
// Whoever changes the API without having the key could otherwise relay its logins.
func bindCredential(current, next *config, data *framework.FieldData, given writtenCredential) error {
	if current == nil || current.signing() == signingExternal || current.api() == next.api() || given.hasKey() {
		return nil
	}
	field := fieldCACertificate
	if current.URL != next.URL {
		field = "url"
		if _, named := data.GetOk("environment"); named {
			field = "environment"
		}
	}
	return &client.InputError{
		Field: field, Fault: "leads to another KSeF than the stored credential was given for",
		Remedy: "give certificate and private_key, or pkcs12, in the same write; force and verify change nothing about that",
	}
}
