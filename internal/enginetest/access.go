// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"net/http"
	"strings"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// QueryInvoices asks KSeF for invoices with an access token, as a program does, and returns KSeF's
// status: 403 where the access token lacks InvoiceRead, 401 where it has ended.
func (env *Env) QueryInvoices(accessToken any) int {
	env.T.Helper()
	const body = `{"subjectType":"Subject1","dateRange":{"dateType":"Issue","from":"2025-10-01T00:00:00+02:00","to":"2025-10-02T00:00:00+02:00"}}`
	request, err := http.NewRequestWithContext(env.T.Context(), http.MethodPost, URL+"/invoices/query/metadata", strings.NewReader(body))
	require.NoError(env.T, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+accessToken.(string))
	response, err := env.Transport.RoundTrip(request)
	require.NoError(env.T, err)
	require.NoError(env.T, response.Body.Close())
	return response.StatusCode
}

// RevokeAs revokes a KSeF token with an access token, as a program can that holds one.
func (env *Env) RevokeAs(accessToken any, referenceNumber string) {
	env.T.Helper()
	access := client.Secret(accessToken.(string))
	require.NoError(env.T, env.api().WithTokenSource(access).RevokeToken(env.T.Context(), referenceNumber))
}

// EndSessionAs ends the session of an access token, as a program can that holds one.
func (env *Env) EndSessionAs(accessToken any) {
	env.T.Helper()
	require.NoError(env.T, env.api().EndSession(env.T.Context(), client.Secret(accessToken.(string))))
}

// AccessToken reads an access token.
func (m *Mount) AccessToken(path string) *logical.Response {
	m.T.Helper()
	response := m.Must(m.Read(path, nil))
	require.NotEmpty(m.T, response.Data["access_token"])
	return response
}

// AccessRole writes a role that hands out access tokens.
func (m *Mount) AccessRole(name string, fields map[string]any) {
	m.T.Helper()
	all := map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token"}
	for field, value := range fields {
		all[field] = value
	}
	m.Must(m.Write("roles/"+name, all))
}

// StaticCreds reads the token of a static role.
func (m *Mount) StaticCreds(name string) map[string]any {
	m.T.Helper()
	return m.Must(m.Read("static-creds/"+name, nil)).Data
}
