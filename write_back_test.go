// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestConfigAddress(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.must(m.write("config", map[string]any{"environment": "test", "url": client.TestURL + "/", "nip": testNIP}))
		for _, write := range []map[string]any{{"url": ""}, {"url": nil, "environment": "test"}, {"environment": "", "url": client.TestURL}} {
			m.must(m.write("config", write))
			require.Equal(t, "test", m.must(m.read("config", nil)).Data["environment"])
		}
		require.Contains(t, m.refused(m.write("config", map[string]any{"environment": "demo", "url": client.TestURL})), "url: is not the address of environment")
		for _, write := range []map[string]any{{"environment": ""}, {"environment": nil, "url": ""}} {
			require.Contains(t, m.refused(m.write("config", write)), "environment: is missing")
		}
		m.must(m.write("config", map[string]any{"environment": "", "url": testURL}))
		m.must(m.write("config", map[string]any{"environment": ""}))
		require.Equal(t, testURL, m.must(m.read("config", nil)).Data["url"])
		require.Contains(t, m.refused(m.write("config", map[string]any{"url": nil})), "environment: is missing")
	})
}

func TestConfigContext(t *testing.T) {
	t.Run("unset_is_the_certificates_own", func(t *testing.T) {
		withMount(t, simulator.Options{Grants: secondGrant()}, func(t *testing.T, m *mount) {
			for _, unset := range []any{nil, ""} {
				m.must(m.write("config", map[string]any{"nip": secondNIP}))
				m.must(m.write("config", map[string]any{"nip": unset}))
				require.Equal(t, testNIP, m.must(m.read("config", nil)).Data["nip"])
				m.must(m.write("config", map[string]any{"nip": unset, "internal_id": unitContext}))
				require.Equal(t, unitContext, m.must(m.read("config", nil)).Data["internal_id"])
				m.must(m.write("config", map[string]any{"nip": unset}))
				require.Equal(t, unitContext, m.must(m.read("config", nil)).Data["internal_id"], "there is no nip to unset")
				m.must(m.write("config", map[string]any{"nip": secondNIP, "internal_id": unset}))
				require.NotContains(t, m.must(m.read("config", nil)).Data, "internal_id")
			}
		})
	})
	t.Run("cannot_be_unset_without_one", func(t *testing.T) {
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.Contains(t, m.refused(m.write("config", map[string]any{"nip": ""})), "nip: is missing, and there is no certificate")
		})
	})
}

func TestConfigComputed(t *testing.T) {
	t.Run("ignored", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			stored, logins := m.stored("config"), m.requests(loginEndpoint)
			response := m.must(m.write("config", map[string]any{
				"certificate_days_left": 3, "signer_name": "Somebody", "certificate_not_after": "2001-01-01T00:00:00Z", "session_until": "", "signing": "certificate",
			}))
			require.Empty(t, response.Warnings)
			require.Equal(t, stored, m.stored("config"))
			require.Equal(t, logins, m.requests(loginEndpoint))
		})
	})
	t.Run("session_until_of_a_person", func(t *testing.T) {
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
			read := m.readJSON("config")
			require.Contains(t, read, "session_until")
			require.Empty(t, m.must(m.write("config", read)).Warnings)
			require.Equal(t, read, m.readJSON("config"))
		})
	})
	t.Run("signing_that_differs_is_refused", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			text := m.refused(m.write("config", map[string]any{"signing": "external"}))
			require.Contains(t, text, "signing: would be certificate after this write; ")
			require.Contains(t, text, "for external, delete config and write it anew without a certificate")
		})
		withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
			text := m.refused(m.write("config", map[string]any{"signing": "certificate"}))
			require.Contains(t, text, "signing: would be external after this write; ")
			fields := m.fields()
			fields["signing"] = "certificate"
			m.must(m.write("config", fields))
		})
	})
	t.Run("described_as_read_only", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			fields := m.backend.Route("config").Fields
			require.NotEmpty(t, configComputed())
			for field := range configComputed() {
				require.Contains(t, fields[field].Description, "Read only", field)
			}
			for field := range m.must(m.read("config", nil)).Data {
				require.Contains(t, fields, field)
			}
		})
	})
}

func TestConfigCertificateWithoutItsKey(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issuer, _ := m.certificate(simulator.CertificateOptions{NIP: testNIP})
		leaf := m.cert
		m.cert += issuer
		m.configure()
		stored, logins := m.stored("config"), m.requests(loginEndpoint)
		for _, same := range []string{m.cert, issuer + leaf, "subject=one\n" + strings.ReplaceAll(m.cert, "\n", "\r\n")} {
			m.must(m.write("config", map[string]any{"certificate": same, "private_key": "", "pkcs12": nil}))
		}
		require.Equal(t, stored, m.stored("config"))
		require.Equal(t, logins, m.requests(loginEndpoint))
		for _, other := range []string{leaf, issuer, m.cert + issuer} {
			text := m.refused(m.write("config", map[string]any{"certificate": other}))
			require.Contains(t, text, "private_key: is missing, and certificate is not the one in force")
		}
		require.Contains(t, m.refused(m.write("config", map[string]any{"certificate": m.cert, "url": otherURL})),
			"url: leads to another KSeF", "a certificate alone proves nothing")
		require.Contains(t, m.refused(m.write("config", map[string]any{"certificate": m.cert, "private_key_password": "x"})), "private_key: is missing")
	})
	withoutKey(t, simulator.Options{}, func(t *testing.T, m *mount) {
		require.Contains(t, m.refused(m.write("config", map[string]any{"certificate": m.cert})), "private_key: is missing")
	})
}

// What was written beside a credential outlasts that it is given again.
func TestConfigCredentialGivenAgain(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("config", map[string]any{"subject_identifier_type": "certificateFingerprint", "verify": false}))
		stored := m.stored("config")
		fields := m.fields()
		fields["verify"] = false
		m.must(m.write("config", fields))
		require.Equal(t, stored, m.stored("config"))
	})
	t.Run("after_it_has_expired", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			certificate, key := m.certificate(simulator.CertificateOptions{NIP: testNIP, NotAfter: time.Now().Add(24 * time.Hour)})
			document := map[string]any{"certificate": certificate, "private_key": key}
			m.must(m.write("config", document))
			m.elapse(48 * time.Hour)
			m.must(m.write("config", document))
			other, otherKey := m.certificate(simulator.CertificateOptions{NIP: testNIP, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
			require.Contains(t, m.refused(m.write("config", map[string]any{"certificate": other, "private_key": otherKey})), "certificate: expired at")
		})
	})
}

func TestRoleWrittenAndRead(t *testing.T) {
	order := []string{"InvoiceWrite", "CredentialsRead", "InvoiceRead"}
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("roles/invoices", map[string]any{"permissions": append(order, "InvoiceWrite"), "internal_id": unitContext}))
		require.Equal(t, order, m.must(m.read("roles/invoices", nil)).Data["permissions"])
		issued := m.must(m.read("creds/invoices", nil))
		require.Equal(t, order, issued.Data["permissions"])
		require.Equal(t, order, m.ksef.State().Tokens[0].RequestedPermissions)
		require.Equal(t, unitContext, m.ksef.State().Tokens[0].ContextIdentifier.Value)
		issued = m.must(m.write("tokens", map[string]any{"permissions": order, "description": "Report"}))
		require.Equal(t, order, issued.Data["permissions"])

		m.must(m.write("roles/invoices", map[string]any{"internal_id": nil, "description": "", "ttl": "", "max_ttl": nil}))
		require.Equal(t, map[string]any{
			"permissions": order, "description": defaultDescription, "ttl": int64(0), "max_ttl": int64(0),
		}, m.must(m.read("roles/invoices", nil)).Data)
		reference := m.must(m.read("creds/invoices", nil)).Data["reference_number"]
		for _, token := range m.ksef.State().Tokens {
			if token.ReferenceNumber == reference {
				require.Equal(t, testNIP, token.ContextIdentifier.Value, "config's context")
			}
		}
		for _, unset := range []any{nil, "", []any{}} {
			require.Contains(t, m.refused(m.write("roles/invoices", map[string]any{"permissions": unset})), "permissions: is empty")
		}
	})
}
