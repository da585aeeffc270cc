// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// accountantNIP is a company that works for the taxpayer of the tests by permissions that were
// granted to it.
const accountantNIP = "1111111111"

func granted(permissions ...string) simulator.Options {
	return simulator.Options{Grants: []simulator.Grant{{
		Identifier:  simulator.Identifier{Type: simulator.TypeNIP, Value: accountantNIP},
		Context:     simulator.Identifier{Type: simulator.TypeNIP, Value: testNIP},
		Permissions: permissions,
	}}}
}

// withAccountant runs a test on a mount whose signer has the permissions that it was granted.
func withAccountant(t *testing.T, permissions []string, test func(t *testing.T, m *mount)) {
	t.Helper()
	inEnv(t, granted(permissions...), func(t *testing.T, w *env) {
		w.cert, w.key = w.certificate(simulator.CertificateOptions{NIP: accountantNIP})
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.configure()
		test(t, m)
	})
}

// takeAway leaves the accountant with the permissions that are named, at once.
func (w *env) takeAway(left ...string) {
	w.t.Helper()
	body := map[string]any{
		"contextIdentifier":    map[string]string{"type": "Nip", "value": testNIP},
		"authorizedIdentifier": map[string]string{"type": "Nip", "value": accountantNIP},
	}
	require.Equal(w.t, http.StatusOK, w.post("/testdata/permissions/revoke", "", body))
	if len(left) == 0 {
		return
	}
	var permissions []map[string]string
	for _, permission := range left {
		permissions = append(permissions, map[string]string{"description": "Praca dla klienta", "permissionType": permission})
	}
	body["permissions"] = permissions
	require.Equal(w.t, http.StatusOK, w.post("/testdata/permissions", "", body))
}

// post sends a request to KSeF as somebody else than the engine does, and returns the status.
func (w *env) post(path string, access client.Secret, body any) int {
	w.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(w.t, err)
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, testURL+path, bytes.NewReader(encoded))
	require.NoError(w.t, err)
	request.Header.Set("Content-Type", "application/json")
	if access != "" {
		request.Header.Set("Authorization", "Bearer "+access.Reveal())
	}
	response, err := w.transport.RoundTrip(request)
	require.NoError(w.t, err)
	require.NoError(w.t, response.Body.Close())
	return response.StatusCode
}

// mayWriteInvoices logs in with a KSeF token and says whether KSeF opens an invoice session. What
// would be wrong with its key, KSeF says later.
func (w *env) mayWriteInvoices(token any) bool {
	w.t.Helper()
	tokens, err := w.tokenLogin(token)
	require.NoError(w.t, err)
	status := w.post("/sessions/online", tokens.Access.Token, map[string]any{
		"formCode":   map[string]string{"systemCode": "FA (3)", "schemaVersion": "1-0E", "value": "FA"},
		"encryption": map[string]any{"encryptedSymmetricKey": make([]byte, 256), "initializationVector": make([]byte, 16)},
	})
	require.Contains(w.t, []int{http.StatusCreated, http.StatusForbidden}, status)
	return status == http.StatusCreated
}

func TestPermissions(t *testing.T) {
	both := []string{"InvoiceRead", "InvoiceWrite"}
	t.Run("the signer lacks one that the token is to have", func(t *testing.T) {
		withAccountant(t, []string{"InvoiceRead"}, func(t *testing.T, m *mount) {
			m.must(m.write("roles/writer", map[string]any{"permissions": "InvoiceRead,InvoiceWrite"}))
			for _, text := range []string{
				m.refused(m.write("tokens", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "description": "Integracja"})),
				m.refused(m.read("creds/writer", nil)),
			} {
				require.Contains(t, text, "26001")
				require.Contains(t, text, "Brakujące uprawnienia: InvoiceWrite)")
				require.Contains(t, text, "The signing subject cannot grant a permission that it does not hold in this context.")
			}
			m.requireEmptyLedger()
		})
	})
	t.Run("the signer has lost all", func(t *testing.T) {
		withAccountant(t, both, func(t *testing.T, m *mount) {
			m.issue()
			m.takeAway()
			m.elapse(15 * time.Minute) // the access token keeps what it was issued with
			const sentence = "The signing subject lacks a permission in this context: KSeF asks for InvoiceRead or InvoiceWrite, and it has none."
			for _, text := range []string{
				m.refused(m.write("tokens", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "description": "Integracja"})),
				m.refused(m.read("creds/invoices", nil)),
			} {
				require.Contains(t, text, "status 403: missing-permissions")
				require.Contains(t, text, sentence)
			}
			require.Contains(t, m.must(m.read("status", nil)).Data["last_error"], sentence)
		})
	})
	t.Run("the maker of a token loses InvoiceWrite", func(t *testing.T) {
		withAccountant(t, both, func(t *testing.T, m *mount) {
			issued := m.issue()
			require.True(t, m.mayWriteInvoices(issued.Data["token"]))
			m.takeAway("InvoiceRead")
			require.False(t, m.mayWriteInvoices(issued.Data["token"]), "a token never has more than its maker")
			m.elapse(15 * time.Minute)
			require.Contains(t, m.refused(m.read("creds/invoices", nil)), "Brakujące uprawnienia: InvoiceWrite)")
			require.NoError(t, m.revoke(m.lease(issued)), "what it made it may revoke")
			m.requireLoginRefused(issued.Data["token"])
		})
	})
}
