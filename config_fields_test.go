// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
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

func TestConfigCredential(t *testing.T) {
	bad := map[string]any{"pkcs12": "Z2FyYmFnZQ==", "pkcs12_password": "secret"}
	t.Run("is read before the configuration is locked", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.NoError(t, ksef.ConnectionLock(m.Backend).Acquire(m.Ctx, 1))
			defer ksef.ConnectionLock(m.Backend).Release(1)
			ctx, cancel := context.WithTimeout(m.Ctx, time.Minute)
			defer cancel()
			m.Ctx = ctx
			require.Contains(t, m.Refused(m.Write("config", bad)), "pkcs12: ")
		})
	})
	t.Run("is read for one request at a time", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.NoError(t, ksef.ParsingLock(m.Backend).Acquire(m.Ctx, 1))
			defer ksef.ParsingLock(m.Backend).Release(1)
			whole := m.Ctx
			ctx, cancel := context.WithTimeout(whole, time.Minute)
			defer cancel()
			m.Ctx = ctx
			_, err := m.Write("config", bad)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			m.Ctx = whole
			m.Must(m.Write("config", map[string]any{"activation_timeout": "10s"}))
		})
	})
}

// A password that comes from a file ends as its lines do.
func TestConfigPasswordWithALineEnd(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		block, _ := pem.Decode([]byte(m.Key))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		require.NoError(t, err)
		encrypted, err := pkcs8.MarshalPrivateKey(key, []byte("sekret"), nil)
		require.NoError(t, err)
		fields := m.ConfigFields()
		fields["private_key"] = string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted}))
		fields["private_key_password"] = "sekret\n"
		m.Must(m.Write("config", fields))
		fields["private_key_password"] = "sekret\n\n"
		require.Contains(t, m.Refused(m.Write("config", fields)), "private_key_password:")
	})
}

func TestConfigDefaultContext(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "certificate": m.Cert, "private_key": m.Key}))
		require.Equal(t, enginetest.NIP, m.Must(m.Read("config", nil)).Data["nip"])
	})
}
