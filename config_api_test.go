// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const otherURL = "https://other.test/v2"

// byHost is a network with several KSeFs.
type byHost map[string]http.RoundTripper

func (b byHost) RoundTrip(request *http.Request) (*http.Response, error) {
	return b[request.URL.Host].RoundTrip(request)
}

// withOther adds another KSeF to the network, whose requests can be counted.
func withOther(t *testing.T, env *enginetest.Env) *enginetest.Env {
	t.Helper()
	other := enginetest.NewEnv(t, simulator.Options{})
	env.SetTransport(byHost{"ksef.test": env.Transport, "other.test": other.Transport})
	return other
}

// inTwoAPIs is a mount that is configured for one KSeF while there is another.
func inTwoAPIs(t *testing.T, test func(t *testing.T, m *enginetest.Mount, other *enginetest.Env)) {
	t.Helper()
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		other := withOther(t, env)
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		test(t, m, other)
	})
}

func authority(t *testing.T) string {
	t.Helper()
	certificate, _, err := simulator.NewCertificate(simulator.CertificateOptions{})
	require.NoError(t, err)
	return string(certificate)
}

func TestConfigAPI(t *testing.T) {
	t.Run("stored_credential_signs_nowhere_else", func(t *testing.T) {
		changes := map[string]any{"url": otherURL, "environment": "test", "ca_certificate": authority(t)}
		for field, value := range changes {
			for _, ways := range []map[string]any{
				{}, {"force": "tokens"}, {"verify": false}, {"force": "tokens,rotation,certificate", "verify": false}, {"nip": enginetest.NIP, "force": "tokens"},
			} {
				t.Run(fmt.Sprint(field, " ", ways), func(t *testing.T) { requireCredentialBound(t, field, value, ways) })
			}
		}
	})
	t.Run("credential_in_the_same_write", func(t *testing.T) {
		inTwoAPIs(t, func(t *testing.T, m *enginetest.Mount, other *enginetest.Env) {
			fields := m.ConfigFields()
			fields["url"] = otherURL
			m.Must(m.Write("config", fields))
			require.Equal(t, otherURL, m.Must(m.Read("config", nil)).Data["url"])
			require.Positive(t, other.Requests("POST /auth/xades-signature"))
			fields["ca_certificate"] = authority(t)
			m.Must(m.Write("config", fields))
		})
	})
	t.Run("same_values_are_no_change", func(t *testing.T) {
		inTwoAPIs(t, func(t *testing.T, m *enginetest.Mount, _ *enginetest.Env) {
			fields := m.ConfigFields()
			trusted := authority(t)
			fields["ca_certificate"] = trusted
			m.Must(m.Write("config", fields))
			logins := m.Requests("POST /auth/xades-signature")
			for _, url := range []string{enginetest.URL, enginetest.URL + "/", "https://KSEF.test:443/v2"} {
				m.Must(m.Write("config", map[string]any{"url": url, "ca_certificate": "\n# ours\n" + strings.ReplaceAll(trusted, "\n", "\r\n")}))
			}
			require.Equal(t, logins, m.Requests("POST /auth/xades-signature"), "the session goes on")
		})
	})
	t.Run("unreadable_config_lends_no_credential", func(t *testing.T) {
		inTwoAPIs(t, func(t *testing.T, m *enginetest.Mount, other *enginetest.Env) {
			require.NoError(t, m.Storage.Put(t.Context(), &logical.StorageEntry{Key: "config", Value: []byte("{")}))
			require.Contains(t, m.Refused(m.Write("config", map[string]any{"url": otherURL})), "nip: is missing")
			m.Must(m.Write("config", map[string]any{"url": otherURL, "nip": enginetest.NIP}))
			require.Equal(t, "external", m.Must(m.Read("config", nil)).Data["signing"])
			require.Zero(t, other.Requests("POST /auth/xades-signature"))
		})
	})
}

func requireCredentialBound(t *testing.T, field string, value any, ways map[string]any) {
	inTwoAPIs(t, func(t *testing.T, m *enginetest.Mount, other *enginetest.Env) {
		m.Issue()
		before, sent := m.Must(m.Read("config", nil)).Data, m.AllRequests()
		data := map[string]any{field: value}
		maps.Copy(data, ways)
		text := m.Refused(m.Write("config", data))
		require.Contains(t, text, field+": leads to another KSeF than the stored credential was given for")
		require.Contains(t, text, "certificate and private_key, or pkcs12, in the same write")
		require.Zero(t, other.AllRequests(), "nothing is sent there")
		require.Equal(t, sent, m.AllRequests(), "nothing is sent at all")
		require.Equal(t, before, m.Must(m.Read("config", nil)).Data)
	})
}

// What a person has signed for one KSeF is of no use at another.
func TestExternalLoginIsBoundToItsAPI(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"url": {"url": otherURL, "force": "tokens"}, "ca_certificate": {"ca_certificate": authority(t)},
	} {
		t.Run("session/"+name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				other := withOther(t, env)
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP}))
				m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
				m.RememberSessions()
				m.Must(m.Write("config", change))
				sent := m.AllRequests()
				require.Contains(t, m.Refused(m.Read("tokens", nil)), "login/begin")
				m.Stop()
				m.Start()
				require.Contains(t, m.Refused(m.Read("tokens", nil)), "login/begin")
				require.Equal(t, sent, m.AllRequests())
				require.Zero(t, other.AllRequests())
			})
		})
		t.Run("begun/"+name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				other := withOther(t, env)
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP}))
				document := m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}).Sign(t, m.BeginLogin(nil), xadestest.DSS())
				m.Must(m.Write("config", change))
				require.Contains(t, m.Refused(m.CompleteLogin(document)), "was begun for "+enginetest.URL)
				require.Zero(t, m.Requests("POST /auth/xades-signature"))
				require.Zero(t, other.AllRequests())
			})
		})
		t.Run("submitted/"+name, func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, env *enginetest.Env) {
				other := withOther(t, env)
				m := env.Mount(&logical.InmemStorage{})
				defer m.Stop()
				m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP}))
				m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
				m.Must(m.Write("config", change))
				sent := m.AllRequests()
				m.Elapse(10 * time.Minute)
				require.Equal(t, sent, m.AllRequests(), "it is asked for no more")
				require.Zero(t, other.AllRequests())
				logins := m.StatusDetails()["logins"].([]map[string]any)
				require.Contains(t, logins[0]["error"], "another KSeF than the login was begun for")
			})
		})
	}
}
