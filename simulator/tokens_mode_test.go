// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// newYear is the start of 2027 in Poland, as the control request takes it.
const newYear = "2027-01-01T00:00:00+01:00"

// onNewYearsEve runs a test in a bubble, an hour before 2027 begins in Poland.
func onNewYearsEve(t *testing.T, options simulator.Options, test func(a *api, login func() session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		options.Limits, options.ActivationDelay = unlimited(), -1
		options.ClockOffset = time.Until(time.Date(2026, time.December, 31, 22, 0, 0, 0, time.UTC))
		a := newAPI(t, options)
		signer := newCredential(t, simulator.CertificateOptions{NIP: nip, NotAfter: time.Now().AddDate(40, 0, 0)})
		test(a, func() session {
			o := a.begin(signer, nipXML)
			a.sim.Advance(options.LoginDelay)
			return a.redeem(o)
		})
	})
}

// setClock sets the clock over HTTP.
func (a *api) setClock(to string) {
	a.t.Helper()
	status, body := a.control("POST", "clock", `{"set": "`+to+`"}`)
	require.Equal(a.t, http.StatusNoContent, status, body)
}

// loginEnds logs in with a token and checks the final status.
func (a *api) loginEnds(token string, want int, detail string) {
	a.t.Helper()
	code, got := a.status(a.beginWithToken(token))
	require.Equal(a.t, want, code)
	require.Contains(a.t, got, detail)
}

func TestTokenModeAccepted(t *testing.T) {
	onNewYearsEve(t, simulator.Options{}, func(a *api, login func() session) {
		_, token := a.issue(login(), "InvoiceRead")
		a.setClock(newYear)
		a.loginEnds(token, 200, "")
		reference, token := a.issue(login(), "InvoiceRead")
		a.setClock("2029-01-01T00:00:00+01:00")
		a.loginEnds(token, 200, "")
		require.Equal(a.t, "Active", a.tokenStatus(login(), reference))
	})
}

func TestTokenModeRefused(t *testing.T) {
	onNewYearsEve(t, simulator.Options{Tokens: simulator.TokensRefused, LoginDelay: time.Second},
		func(a *api, login func() session) {
			a.setClock("2026-12-31T23:59:50+01:00")
			owner := login()
			reference, token := a.issue(owner, "InvoiceRead")
			o := a.beginWithToken(token)
			a.sim.Advance(time.Second)
			opened := a.redeem(o)
			a.setClock("2026-12-31T23:59:59.5+01:00")
			early := a.beginWithToken(token)

			a.setClock(newYear)
			a.refused(a.do("POST", "/tokens", owner.access, tokenBody), 26003, "2027")
			a.sim.Advance(time.Second)
			code, detail := a.status(early)
			require.Equal(a.t, 450, code, "it is decided in 2027")
			require.Contains(a.t, detail, "2027")
			a.want(http.StatusOK, "GET", "/tokens/"+reference, opened.access, nil)
			a.want(http.StatusOK, "POST", "/auth/token/refresh", opened.refresh, nil)
			require.Equal(a.t, "Active", a.tokenStatus(owner, reference))
			a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, owner.access, nil)
		})
}

func TestTokenModeExpiring(t *testing.T) {
	options := simulator.Options{Tokens: simulator.TokensExpiring, TokenValidity: 30}
	onNewYearsEve(t, options, func(a *api, login func() session) {
		older, oldToken := a.issue(login(), "InvoiceRead")
		a.setClock("2027-01-11T00:00:00+01:00")
		newer, newToken := a.issue(login(), "InvoiceRead")
		a.setClock("2027-01-30T23:50:00+01:00")
		opened := a.redeem(a.beginWithToken(oldToken))
		require.Equal(a.t, "2027-01-30T23:00:00.0000000+00:00", a.sim.State().Tokens[0].ValidUntil,
			"an older one counts from 2027 on")
		require.Equal(a.t, "2027-02-09T23:00:00.0000000+00:00", a.sim.State().Tokens[1].ValidUntil)

		a.setClock("2027-01-31T00:00:00+01:00")
		owner := login()
		a.loginEnds(oldToken, 450, "Token nieaktywny")
		a.loginEnds(newToken, 200, "")
		a.want(http.StatusOK, "GET", "/tokens/"+older, opened.access, nil)
		a.refused(a.do("POST", "/auth/token/refresh", opened.refresh, nil), 21301, "termin ważności")
		got := a.want(http.StatusOK, "GET", "/tokens/"+older, owner.access, nil)
		require.Equal(a.t, "Revoked", got.text("status"))
		require.Equal(a.t, []any{"Upłynął termin ważności tokena."}, got.body["statusDetails"])
		a.refused(a.do("DELETE", "/tokens/"+older, owner.access, nil), 21405, "Revoked")
		require.Equal(a.t, "Active", a.tokenStatus(owner, newer))
	})
}

func TestTokenModeChangesAtRunTime(t *testing.T) {
	onNewYearsEve(t, simulator.Options{}, func(a *api, login func() session) {
		a.setClock(newYear)
		_, token := a.issue(login(), "InvoiceRead")
		decided := a.beginWithToken(token)
		set := func(body string) {
			status, text := a.control("POST", "tokens", body)
			require.Equal(a.t, http.StatusNoContent, status, text)
		}
		set(`{"tokens": "refused"}`)
		a.loginEnds(token, 450, "2027")
		a.redeem(decided)
		set(`{"tokens": "expiring", "validity_days": 1}`)
		a.loginEnds(token, 200, "")
		a.sim.Advance(24 * time.Hour)
		a.loginEnds(token, 450, "Token nieaktywny")
		set(`{"tokens": "accepted"}`)
		a.loginEnds(token, 200, "")
		set(`{"tokens": "expiring"}`)
		a.loginEnds(token, 450, "Token nieaktywny")

		a.sim.Reset()
		a.setClock(newYear)
		_, token = a.issue(login(), "InvoiceRead")
		a.sim.Advance(366 * 24 * time.Hour)
		a.loginEnds(token, 200, "")
	})
}

// The status of the login is not read between its decision and the change.
func TestTokenModeChangeAfterDecision(t *testing.T) {
	for late, want := range map[bool]int{true: 200, false: 450} {
		onNewYearsEve(t, simulator.Options{LoginDelay: time.Second}, func(a *api, login func() session) {
			a.setClock(newYear)
			_, token := a.issue(login(), "InvoiceRead")
			o := a.beginWithToken(token)
			if late {
				a.sim.Advance(time.Second)
			}
			require.NoError(a.t, a.sim.SetTokens(simulator.TokensRefused, 0))
			a.sim.Advance(time.Second)
			code, _ := a.status(o)
			require.Equal(a.t, want, code)
		})
	}
}
