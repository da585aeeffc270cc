// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// accountantNIP is a company with permissions that the taxpayer has granted.
const accountantNIP = "1111111111"

func granted(permissions ...string) simulator.Options {
	return simulator.Options{Grants: []simulator.Grant{{
		Identifier:  simulator.Identifier{Type: simulator.TypeNIP, Value: accountantNIP},
		Context:     simulator.Identifier{Type: simulator.TypeNIP, Value: NIP},
		Permissions: permissions,
	}}}
}

// withAccountant runs a test on a mount whose signer is the accountant.
func withAccountant(t *testing.T, permissions []string, test func(t *testing.T, m *Mount)) {
	t.Helper()
	withSignerOf(t, permissions, func(t *testing.T, m *Mount) {
		m.Configure()
		test(t, m)
	})
}

// takeAway leaves the accountant with the given permissions.
func takeAway(env *Env, left ...string) {
	env.T.Helper()
	body := map[string]any{
		"contextIdentifier":    map[string]string{"type": "Nip", "value": NIP},
		"authorizedIdentifier": map[string]string{"type": "Nip", "value": accountantNIP},
	}
	require.Equal(env.T, http.StatusOK, post(env, "/testdata/permissions/revoke", "", body))
	if len(left) == 0 {
		return
	}
	var permissions []map[string]string
	for _, permission := range left {
		permissions = append(permissions, map[string]string{"description": "Praca dla klienta", "permissionType": permission})
	}
	body["permissions"] = permissions
	require.Equal(env.T, http.StatusOK, post(env, "/testdata/permissions", "", body))
}

// post sends a request to KSeF that the engine does not make, and returns the status.
func post(env *Env, path string, access client.Secret, body any) int {
	env.T.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(env.T, err)
	request, err := http.NewRequestWithContext(env.T.Context(), http.MethodPost, URL+path, bytes.NewReader(encoded))
	require.NoError(env.T, err)
	request.Header.Set("Content-Type", "application/json")
	if access != "" {
		request.Header.Set("Authorization", "Bearer "+access.Reveal())
	}
	response, err := env.Transport.RoundTrip(request)
	require.NoError(env.T, err)
	require.NoError(env.T, response.Body.Close())
	return response.StatusCode
}

// mayWriteInvoices logs in with a KSeF token and reports whether KSeF opens an invoice session.
// KSeF checks the session's key later.
func mayWriteInvoices(env *Env, token any) bool {
	env.T.Helper()
	tokens, err := env.TokenLogin(token)
	require.NoError(env.T, err)
	status := post(env, "/sessions/online", tokens.Access.Token, map[string]any{
		"formCode":   map[string]string{"systemCode": "FA (3)", "schemaVersion": "1-0E", "value": "FA"},
		"encryption": map[string]any{"encryptedSymmetricKey": make([]byte, 256), "initializationVector": make([]byte, 16)},
	})
	require.Contains(env.T, []int{http.StatusCreated, http.StatusForbidden}, status)
	return status == http.StatusCreated
}

func TestPermissions(t *testing.T) {
	both := []string{"InvoiceRead", "InvoiceWrite"}
	t.Run("the signer lacks one that the token is to have", func(t *testing.T) {
		withAccountant(t, []string{"InvoiceRead"}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceRead,InvoiceWrite"}))
			for _, text := range []string{
				m.Refused(m.Write("tokens", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "description": "Integracja"})),
				m.Refused(m.Read("creds/writer", nil)),
			} {
				require.Contains(t, text, "26001")
				require.Contains(t, text, "Brakujące uprawnienia: InvoiceWrite)")
				require.Contains(t, text, "The signing subject cannot grant a permission that it does not hold in this context.")
			}
			m.RequireEmptyLedger()
		})
	})
	t.Run("the signer has lost all", func(t *testing.T) {
		withAccountant(t, both, func(t *testing.T, m *Mount) {
			m.Issue()
			takeAway(m.Env)
			m.Elapse(15 * time.Minute) // the access token keeps what it was issued with
			const sentence = "The signing subject lacks a permission in this context: KSeF asks for InvoiceRead or InvoiceWrite, and it has none."
			for _, text := range []string{
				m.Refused(m.Write("tokens", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "description": "Integracja"})),
				m.Refused(m.Read("creds/invoices", nil)),
			} {
				require.Contains(t, text, "status 403: missing-permissions")
				require.Contains(t, text, sentence)
			}
			require.Contains(t, m.Must(m.Read("status", nil)).Data["last_error"], sentence)
		})
	})
	t.Run("the maker of a token loses InvoiceWrite", func(t *testing.T) {
		withAccountant(t, both, func(t *testing.T, m *Mount) {
			issued := m.Issue()
			require.True(t, mayWriteInvoices(m.Env, issued.Data["token"]))
			takeAway(m.Env, "InvoiceRead")
			require.False(t, mayWriteInvoices(m.Env, issued.Data["token"]), "a token never has more than its maker")
			m.Elapse(15 * time.Minute)
			require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "Brakujące uprawnienia: InvoiceWrite)")
			require.NoError(t, m.Revoke(m.Lease(issued)), "what it made it may revoke")
			m.RequireLoginRefused(issued.Data["token"])
		})
	})
}
