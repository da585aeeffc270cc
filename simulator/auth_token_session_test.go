// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// withClientAt returns the same client at another address.
func (a *api) withClientAt(address string) *api {
	transport := a.client.Transport.(contractTransport)
	transport.next = simulator.NewTransportFrom(a.sim.Handler(), address)
	return &api{a.t, a.sim, &http.Client{Transport: transport}, a.header}
}

// A token without any Credentials* reads and revokes itself (changelog 2.5.0), and that ends what
// stands on it.
func TestTokenRevokesItself(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1, RevocationDelay: time.Minute})
	owner := a.login(seal(t), nipXML)
	reference, token := a.issue(owner, "InvoiceRead")
	own := a.redeem(a.beginWithToken(token))
	require.Equal(t, "Active", a.tokenStatus(own, reference))
	a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, own.access, nil)
	require.Equal(t, "Revoking", a.tokenStatus(own, reference), "its access token is valid to its end")
	require.Equal(t, "Revoking", a.tokenStatus(owner, reference))
	a.refused(a.do("POST", "/auth/token/refresh", own.refresh, nil), 21301, "Token KSeF został unieważniony.")
	a.loginEnds(token, 450, "Token unieważniony")
}

func TestTokenSessionEnded(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1, Limits: unlimited()})
	owner := a.login(seal(t), nipXML)
	reference, token := a.issue(owner, "InvoiceRead")
	login := func() session { return a.redeem(a.beginWithToken(token)) }
	listed := func(s session) []string {
		references, _ := a.list("/auth/sessions", s.access, "items", "referenceNumber")
		return references
	}
	first, second, third := login(), login(), login()
	require.Equal(t, []string{third.reference, second.reference, first.reference}, listed(first))
	require.Equal(t, []string{owner.reference}, listed(owner), "they are the token's own")

	a.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", first.access, nil)
	a.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", second.refresh, nil)
	a.want(http.StatusNoContent, "DELETE", "/auth/sessions/"+third.reference, first.access, nil)
	for _, ended := range []session{first, second, third} {
		a.refused(a.do("POST", "/auth/token/refresh", ended.refresh, nil), 21301, "(425)")
		require.Equal(t, "Active", a.tokenStatus(ended, reference), "its access token is valid to its end")
	}
	require.Empty(t, listed(first))
	fourth := login()
	require.Equal(t, []string{fourth.reference}, listed(fourth), "the token itself has not ended")
}

// ksef-api issue 190.
func TestTokenSessionNotEndedByOthers(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1})
	owner := a.login(seal(t), nipXML)
	_, token := a.issue(owner, "InvoiceRead")
	_, otherToken := a.issue(owner, "InvoiceRead")
	opened, other := a.redeem(a.beginWithToken(token)), a.redeem(a.beginWithToken(otherToken))
	a.refused(a.do("DELETE", "/auth/sessions/"+opened.reference, owner.access, nil), 21405, "nie istnieje")
	a.refused(a.do("DELETE", "/auth/sessions/"+opened.reference, other.access, nil), 21405, "nie istnieje")
	a.refused(a.do("DELETE", "/auth/sessions/"+owner.reference, opened.access, nil), 21405, "nie istnieje")
	for _, alive := range []session{owner, opened, other} {
		a.want(http.StatusOK, "POST", "/auth/token/refresh", alive.refresh, nil)
	}
}

func TestTokenLoginIPPolicyBindsAccessToken(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1})
	_, token := a.issue(a.login(seal(t), nipXML), "InvoiceRead")
	login := func(allowed map[string]any) session {
		body := a.tokenRequest(token)
		body["authorizationPolicy"] = map[string]any{"allowedIps": allowed}
		return a.redeem(operationOf(a.want(http.StatusAccepted, "POST", "/auth/ksef-token", "", body)))
	}
	for _, allowed := range []map[string]any{
		{"ip4Addresses": []string{"192.0.2.1", "127.0.0.1"}}, {"ip4Ranges": []string{"127.0.0.0-127.0.0.9"}},
		{"ip4Masks": []string{"127.0.0.0/8"}}, {}, nil,
	} {
		a.want(http.StatusOK, "GET", "/rate-limits", login(allowed).access, nil)
	}
	bound := login(map[string]any{"ip4Addresses": []string{"192.0.2.1"}, "ip4Masks": []string{"198.51.100.0/24"}})
	refreshed := a.want(http.StatusOK, "POST", "/auth/token/refresh", bound.refresh, nil).text("accessToken.token")
	for _, access := range []string{bound.access, refreshed} {
		got := a.want(http.StatusForbidden, "GET", "/rate-limits", access, nil)
		require.Equal(t, "ip-not-allowed", got.text("reasonCode"))
		require.Equal(t, "127.0.0.1", got.text("security.clientIp"))
		a.withClientAt("192.0.2.1").want(http.StatusOK, "GET", "/rate-limits", access, nil)
		a.withClientAt("198.51.100.9").want(http.StatusOK, "GET", "/rate-limits", access, nil)
	}
}

// Tokens are refused from 2027 on: their logins as well as new ones.
func TestTokenModeRefusedLogins(t *testing.T) {
	options := simulator.Options{Tokens: simulator.TokensRefused}
	onNewYearsEve(t, options, func(a *api, login func() session) {
		reference, token := a.issue(login(), "InvoiceRead")
		a.loginEnds(token, 200, "")
		a.setClock(newYear)
		a.loginEnds(token, 450, "2027")
		a.refused(a.do("POST", "/tokens", login().access, tokenBody), 26003, "2027")
		require.Equal(a.t, "Active", a.tokenStatus(login(), reference))
	})
}
