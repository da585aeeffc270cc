// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuerySessions(t *testing.T) {
	server := &answering{status: 200, body: `{"continuationToken":"more","items":[
		{"referenceNumber":"20251010-AU-1DCE3E3000-12ECB5B36E-45","isCurrent":true,"startDate":"2026-11-24T12:00:00Z",
			"status":{"code":200,"description":"d"},"authenticationMethodInfo":{"category":"XadesSignature","code":"c","displayName":"n"},
			"isTokenRedeemed":true,"lastTokenRefreshDate":"2026-11-24T13:00:00Z","refreshTokenValidUntil":"2026-12-01T12:00:00Z"},
		{"referenceNumber":"20251010-AU-1DCE3E3000-12ECB5B36E-46","startDate":"2026-11-24T12:00:00+02:00","status":{"code":425},
			"authenticationMethod":"SomethingNew","isTokenRedeemed":null,"refreshTokenValidUntil":null}]}`}
	page, err := newClient(t, server).QuerySessions(t.Context(), SessionQuery{PageSize: 20, Continuation: "next"})
	require.NoError(t, err)
	require.Equal(t, "/v2/auth/sessions?pageSize=20", server.seen.URL.RequestURI())
	require.Equal(t, "next", server.seen.Header.Get("x-continuation-token"))
	require.Equal(t, "Bearer access", server.seen.Header.Get("Authorization"))
	require.Equal(t, "more", page.Continuation)
	require.Len(t, page.Sessions, 2)
	first, second := page.Sessions[0], page.Sessions[1]
	require.True(t, first.Current && first.Redeemed)
	require.Equal(t, "XadesSignature", first.Method.Category)
	require.Equal(t, 200, first.Status.Code)
	require.Equal(t, 2026, first.Started.Year())
	require.Equal(t, 12, int(first.RefreshValidUntil.Month()))
	require.Equal(t, 13, first.LastRefreshed.Hour())
	require.False(t, second.Current || second.Redeemed)
	require.Nil(t, second.Method)
	require.Nil(t, second.RefreshValidUntil)

	_, err = newClient(t, server).QuerySessions(t.Context(), SessionQuery{})
	require.NoError(t, err)
	require.Equal(t, "/v2/auth/sessions", server.seen.URL.RequestURI())
}

func TestEndSessionByNumber(t *testing.T) {
	server := &answering{status: 204}
	limiter := &recordingLimiter{}
	err := newClient(t, server).WithLimiter(limiter).EndSessionByNumber(t.Context(), "20251010-AU-1DCE3E3000/12ECB5B36E-45")
	require.NoError(t, err)
	require.Equal(t, "DELETE", server.seen.Method)
	require.Equal(t, "/v2/auth/sessions/20251010-AU-1DCE3E3000%2F12ECB5B36E-45", server.seen.URL.RequestURI())
	require.Equal(t, []string{EndpointEndNumbered}, limiter.admitted)

	err = newClient(t, &answering{status: 400, body: `{"errors":[{"code":21405,"description":"d"}]}`}).
		EndSessionByNumber(t.Context(), "x")
	require.True(t, HasCode(err, 21405))
}

// A login's status is read without authenticationMethod, which KSeF is about to remove, and with an
// unknown one.
func TestLoginStatus_withoutMethod(t *testing.T) {
	for name, method := range map[string]string{
		"none":    ``,
		"null":    `,"authenticationMethod":null,"authenticationMethodInfo":null`,
		"unknown": `,"authenticationMethod":"Telepathy","authenticationMethodInfo":{"category":"Mind"}`,
		"another": `,"authenticationMethod":{"name":"Token"}`,
	} {
		t.Run(name, func(t *testing.T) {
			server := &answering{status: 200, body: `{"startDate":"2026-11-24T12:00:00Z","status":{"code":200}` + method + `}`}
			state, err := newClient(t, server).LoginStatus(t.Context(), &Operation{ReferenceNumber: "x", Token: Bearer{Token: "not a JWT"}})
			require.NoError(t, err)
			require.True(t, state.Done)
			require.Equal(t, "Bearer not a JWT", server.seen.Header.Get("Authorization"))
		})
	}
}
