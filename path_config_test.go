// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestConfigReadShowsNoSecrets(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, enginetest.URL, read["url"])
		require.Equal(t, enginetest.NIP, read["nip"])
		require.Equal(t, "seal", read["signer_kind"])
		require.Equal(t, enginetest.NIP, read["signer_identifier"])
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

func TestConfigWriteKeepsOtherFields(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"activation_timeout": "7s"}))
		read := m.Must(m.Read("config", nil)).Data
		require.Equal(t, int64(7), read["activation_timeout"])
		require.Equal(t, enginetest.URL, read["url"])
		require.NoError(t, m.Login(m.Issue().Data["token"]))
	})
}

func TestConfigOfAnotherSignerOrOwner(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: "90010112345"})
		response := m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
		require.Contains(t, strings.Join(response.Warnings, " "), "only if it holds CredentialsManage")
		text := m.Refused(m.Write("config", map[string]any{"nip": "1111111111"}))
		require.Contains(t, text, "nip: would leave behind 1 live token")
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

func TestConfigShowsKSeFsWarning(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		env.SetTransport(warning{env.Transport})
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		response := m.Must(m.Write("config", map[string]any{"url": enginetest.URL, "nip": enginetest.NIP, "certificate": m.Cert, "private_key": m.Key}))
		require.Contains(t, strings.Join(response.Warnings, " "), "[sig-001]: Format podpisu niezgodny")
		status := m.Must(m.Read("status", nil)).Data
		require.Equal(t, "[sig-001]: Format podpisu niezgodny", status["last_warning"])
		require.Contains(t, m.Logs.String(), "KSeF warns")
	})
}

func TestConfigShowsKSeFsRefusal(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite"}))
		text := m.Refused(m.Read("creds/writer", nil))
		require.Contains(t, text, "26001")
		require.Contains(t, text, "Nie można nadać tokenowi uprawnień")
		require.Contains(t, text, "cannot grant a permission that it does not hold")
		m.RequireEmptyLedger()
		status := m.Must(m.Read("status", nil)).Data
		require.Contains(t, status["last_error"], "26001")
	})
}
