// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

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
func (w *env) withOther(t *testing.T, options simulator.Options) *env {
	t.Helper()
	other := newEnv(t, options)
	w.transport = byHost{"ksef.test": w.transport, "other.test": other.transport}
	return other
}

// inTwoAPIs is a mount that is configured for one KSeF while there is another.
func inTwoAPIs(t *testing.T, test func(t *testing.T, m *mount, other *env)) {
	t.Helper()
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		other := w.withOther(t, simulator.Options{})
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.configure()
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
				{}, {"force": "tokens"}, {"verify": false}, {"force": "tokens,rotation,certificate", "verify": false}, {"nip": testNIP, "force": "tokens"},
			} {
				t.Run(fmt.Sprint(field, " ", ways), func(t *testing.T) { requireCredentialBound(t, field, value, ways) })
			}
		}
	})
	t.Run("credential_in_the_same_write", func(t *testing.T) {
		inTwoAPIs(t, func(t *testing.T, m *mount, other *env) {
			fields := m.fields()
			fields["url"] = otherURL
			m.must(m.write("config", fields))
			require.Equal(t, otherURL, m.must(m.read("config", nil)).Data["url"])
			require.Positive(t, other.requests("POST /auth/xades-signature"))
			fields["ca_certificate"] = authority(t)
			m.must(m.write("config", fields))
		})
	})
	t.Run("same_values_are_no_change", func(t *testing.T) {
		inTwoAPIs(t, func(t *testing.T, m *mount, _ *env) {
			fields := m.fields()
			trusted := authority(t)
			fields["ca_certificate"] = trusted
			m.must(m.write("config", fields))
			logins := m.requests("POST /auth/xades-signature")
			for _, url := range []string{testURL, testURL + "/", "https://KSEF.test:443/v2"} {
				m.must(m.write("config", map[string]any{"url": url, "ca_certificate": "\n# ours\n" + strings.ReplaceAll(trusted, "\n", "\r\n")}))
			}
			require.Equal(t, logins, m.requests("POST /auth/xades-signature"), "the session goes on")
		})
	})
	t.Run("unreadable_config_lends_no_credential", func(t *testing.T) {
		inTwoAPIs(t, func(t *testing.T, m *mount, other *env) {
			require.NoError(t, m.storage.Put(t.Context(), &logical.StorageEntry{Key: configKey, Value: []byte("{")}))
			require.Contains(t, m.refused(m.write("config", map[string]any{"url": otherURL})), "nip: is missing")
			m.must(m.write("config", map[string]any{"url": otherURL, "nip": testNIP}))
			require.Equal(t, signingExternal, m.must(m.read("config", nil)).Data["signing"])
			require.Zero(t, other.requests("POST /auth/xades-signature"))
		})
	})
}

func requireCredentialBound(t *testing.T, field string, value any, ways map[string]any) {
	inTwoAPIs(t, func(t *testing.T, m *mount, other *env) {
		m.issue()
		before, sent := m.must(m.read("config", nil)).Data, m.allRequests()
		data := map[string]any{field: value}
		maps.Copy(data, ways)
		text := m.refused(m.write("config", data))
		require.Contains(t, text, field+": leads to another KSeF than the stored credential was given for")
		require.Contains(t, text, "certificate and private_key, or pkcs12, in the same write")
		require.Zero(t, other.allRequests(), "nothing is sent there")
		require.Equal(t, sent, m.allRequests(), "nothing is sent at all")
		require.Equal(t, before, m.must(m.read("config", nil)).Data)
	})
}

// What a person has signed for one KSeF is of no use at another.
func TestExternalLoginIsBoundToItsAPI(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"url": {"url": otherURL, "force": "tokens"}, "ca_certificate": {"ca_certificate": authority(t)},
	} {
		t.Run("session/"+name, func(t *testing.T) {
			inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
				other := w.withOther(t, simulator.Options{})
				m := w.mount(&logical.InmemStorage{})
				defer m.stop()
				m.must(m.write("config", map[string]any{"url": testURL, "nip": testNIP}))
				m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
				m.rememberSessions()
				m.must(m.write("config", change))
				sent := m.allRequests()
				require.Contains(t, m.refused(m.read("tokens", nil)), "login/begin")
				m.stop()
				m.start()
				require.Contains(t, m.refused(m.read("tokens", nil)), "login/begin")
				require.Equal(t, sent, m.allRequests())
				require.Zero(t, other.allRequests())
			})
		})
		t.Run("begun/"+name, func(t *testing.T) {
			inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
				other := w.withOther(t, simulator.Options{})
				m := w.mount(&logical.InmemStorage{})
				defer m.stop()
				m.must(m.write("config", map[string]any{"url": testURL, "nip": testNIP}))
				document := m.signer(simulator.CertificateOptions{PESEL: testPESEL}).sign(t, m.begin(nil), xadestest.DSS())
				m.must(m.write("config", change))
				require.Contains(t, m.refused(m.complete(document)), "was begun for "+testURL)
				require.Zero(t, m.requests("POST /auth/xades-signature"))
				require.Zero(t, other.allRequests())
			})
		})
		t.Run("submitted/"+name, func(t *testing.T) {
			inEnv(t, simulator.Options{QualifiedLoginDelay: 5 * time.Minute}, func(t *testing.T, w *env) {
				other := w.withOther(t, simulator.Options{})
				m := w.mount(&logical.InmemStorage{})
				defer m.stop()
				m.must(m.write("config", map[string]any{"url": testURL, "nip": testNIP}))
				m.logIn(m.signer(simulator.CertificateOptions{PESEL: testPESEL}))
				m.must(m.write("config", change))
				sent := m.allRequests()
				m.elapse(10 * time.Minute)
				require.Equal(t, sent, m.allRequests(), "nobody asks for it any more")
				require.Zero(t, other.allRequests())
				logins := m.statusDetails()["logins"].([]map[string]any)
				require.Contains(t, logins[0]["error"], "another KSeF than the login was begun for")
			})
		})
	}
}

// What is stored without a ca_certificate stays where it lies.
func TestConfigAPIKeepsItsNameWithoutAuthorities(t *testing.T) {
	plain := config{URL: testURL, SubjectIdentifierType: "certificateSubject", Certificate: "certificate"}
	require.Equal(t, testURL, plain.api())
	require.Equal(t, "d6983024343f", plain.fingerprint()[:12])
	bound := plain
	bound.CACertificate = authority(t)
	require.NotEqual(t, plain.fingerprint(), bound.fingerprint())
}
