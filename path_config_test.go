// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
)

func TestConfigReadsBackEverythingButSecrets(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		read := m.must(m.read("config", nil)).Data
		require.Equal(t, testURL, read["url"])
		require.Equal(t, testNIP, read["nip"])
		require.Equal(t, "seal", read["signer_kind"])
		require.Equal(t, testNIP, read["signer_identifier"])
		require.Equal(t, "certificateSubject", read["subject_identifier_type"])
		require.Equal(t, int64(30), read["request_timeout"])
		require.Positive(t, read["certificate_days_left"])
		for field, value := range read {
			require.NotContains(t, field, "private")
			text, _ := value.(string)
			require.NotContains(t, text, "PRIVATE KEY")
		}
	})
}

func TestConfigKeepsWhatAWriteDoesNotName(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("config", map[string]any{"activation_timeout": "7s"}))
		read := m.must(m.read("config", nil)).Data
		require.Equal(t, int64(7), read["activation_timeout"])
		require.Equal(t, testURL, read["url"])
		require.NoError(t, m.login(m.issue().Data["token"]))
	})
}

// A password that comes from a file ends as its lines do.
func TestThePasswordOfAFileHasNoLineEnd(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		block, _ := pem.Decode([]byte(m.key))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		require.NoError(t, err)
		encrypted, err := pkcs8.MarshalPrivateKey(key, []byte("sekret"), nil)
		require.NoError(t, err)
		fields := m.fields()
		fields["private_key"] = string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted}))
		fields["private_key_password"] = "sekret\n"
		m.must(m.write("config", fields))
		fields["private_key_password"] = "sekret\n\n"
		require.Contains(t, m.refused(m.write("config", fields)), "private_key_password:")
	})
}

func TestTheContextIsTheCertificatesOwnUnlessNamed(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.must(m.write("config", map[string]any{"url": testURL, "certificate": m.cert, "private_key": m.key}))
		require.Equal(t, testNIP, m.must(m.read("config", nil)).Data["nip"])
	})
}

func TestAConfigThatCannotLogInIsNotStored(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		stranger, key := w.certificate(simulator.CertificateOptions{NIP: "1111111111"})
		data := map[string]any{"url": testURL, "nip": testNIP, "certificate": stranger, "private_key": key}
		text := m.refused(m.write("config", data))
		require.Contains(t, text, "was not stored")
		require.Contains(t, text, "415")
		require.Contains(t, text, "grant it one in KSeF")
		require.Nil(t, m.must(m.read("config", nil)))

		data["verify"] = false
		response := m.must(m.write("config", data))
		require.Contains(t, strings.Join(response.Warnings, " "), "without logging in")
		require.NotNil(t, m.must(m.read("config", nil)))
	})
}

func TestAConfigIsNotStoredWhileKSeFIsOutOfReach(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		w.fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		data := map[string]any{"url": testURL, "nip": testNIP, "certificate": m.cert, "private_key": m.key}
		_, err := m.write("config", data)
		require.ErrorContains(t, err, "was not stored")
		require.ErrorContains(t, err, "could not be reached")
		require.Nil(t, m.must(m.read("config", nil)))

		data["verify"] = false
		m.must(m.write("config", data))
		w.ksef.ClearFaults()
		require.NoError(t, m.login(m.issue().Data["token"]))
	})
}

func TestAnotherConfigEndsTheSessionsOfTheOneBefore(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.cert, m.key = m.certificate(simulator.CertificateOptions{NIP: testNIP, Key: "rsa"})
		m.configure()
		require.Equal(t, 1, m.openSessions())
		m.must(m.delete("config"))
		require.Equal(t, 0, m.openSessions())
		m.requireNothingLeftOf("sessions/", "config")
	})
}

// The session that a login has left in its last step is ended under the configuration that stays.
func TestAConfigThatIsNotStoredLeavesNoSession(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.issue()
		certificate, key := m.certificate(simulator.CertificateOptions{NIP: testNIP})
		m.fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropReply, Times: 3})
		for range 3 {
			_, err := m.write("config", map[string]any{"certificate": certificate, "private_key": key})
			require.ErrorContains(t, err, "was not stored")
		}
		require.Equal(t, 4, m.openSessions())
		for range 2 {
			m.elapse(15 * time.Minute)
			m.must(m.read("tokens", nil))
		}
		require.Equal(t, 1, m.openSessions())
		m.requireNothingLeftOf("unstored-sessions/")
	})
}

func TestAnotherSignerIsWarnedOfAndAnotherOwnerIsRefused(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.issue()
		certificate, key := m.certificate(simulator.CertificateOptions{PESEL: "90010112345"})
		response := m.must(m.write("config", map[string]any{"certificate": certificate, "private_key": key}))
		require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
		text := m.refused(m.write("config", map[string]any{"nip": "1111111111"}))
		require.Contains(t, text, "nip: would leave behind 1 live token")
	})
}

func TestASettingThatChangesKeepsTheSessions(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.issue()
		logins := m.requests("POST /auth/xades-signature")
		m.must(m.write("config", map[string]any{"activation_timeout": "10s"}))
		m.issue()
		require.Equal(t, logins, m.requests("POST /auth/xades-signature"))
		require.Equal(t, 1, m.requests("POST /auth/token/refresh"), "a refresh proves the session")
	})
}

func TestOpenTokensGuardTheConfig(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		text := m.refused(m.write("config", map[string]any{"environment": "demo", "verify": false, "certificate": m.cert, "private_key": m.key}))
		require.Contains(t, text, "1 live token")
		require.Contains(t, text, "force=tokens")
		require.Contains(t, m.refused(m.delete("config")), "1 live token")

		response := m.must(m.request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
		require.Contains(t, strings.Join(response.Warnings, " "), "Left behind: 1 live token")
		require.Error(t, m.revoke(m.lease(issued)), "a lease never ends while its token lives")
		m.configure()
		require.Eventually(t, func() bool { m.elapse(time.Minute); return m.revoke(m.lease(issued)) == nil }, time.Hour, time.Second)
		m.requireLoginRefused(issued.Data["token"])
	})
}

// warning is a KSeF that answers everything and warns of it.
type warning struct{ http.RoundTripper }

func (w warning) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := w.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Header.Set("X-System-Warning", "[sig-001]: Format podpisu niezgodny")
	}
	return response, err
}

func TestWhatKSeFWarnsOfIsShown(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		w.transport = warning{w.transport}
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		response := m.must(m.write("config", map[string]any{"url": testURL, "nip": testNIP, "certificate": m.cert, "private_key": m.key}))
		require.Contains(t, strings.Join(response.Warnings, " "), "[sig-001]: Format podpisu niezgodny")
		status := m.must(m.read("status", nil)).Data
		require.Equal(t, "[sig-001]: Format podpisu niezgodny", status["last_warning"])
		require.Contains(t, m.logs.String(), "KSeF warns")
	})
}

func TestWhatKSeFRefusesComesThroughWithItsCodeAndAnEnglishSentence(t *testing.T) {
	withMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *mount) {
		m.must(m.write("roles/writer", map[string]any{"permissions": "InvoiceWrite"}))
		text := m.refused(m.read("creds/writer", nil))
		require.Contains(t, text, "26001")
		require.Contains(t, text, "Nie można nadać tokenowi uprawnień")
		require.Contains(t, text, "cannot grant a permission that it does not hold")
		m.requireEmptyLedger()
		status := m.must(m.read("status", nil)).Data
		require.Contains(t, status["last_error"], "26001")
	})
}

// openSessions counts KSeF's sessions that were opened with a signature and can still be refreshed.
func (w *env) openSessions() int {
	open := 0
	for _, session := range w.ksef.State().Sessions {
		if session.Active && session.TokenReferenceNumber == "" {
			open++
		}
	}
	return open
}

func (m *mount) requireNothingLeftOf(prefixes ...string) {
	m.t.Helper()
	keys, err := logical.CollectKeys(m.t.Context(), m.storage)
	require.NoError(m.t, err)
	for _, key := range keys {
		for _, prefix := range prefixes {
			require.False(m.t, strings.HasPrefix(key, prefix), key)
		}
	}
}
