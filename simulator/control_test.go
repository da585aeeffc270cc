// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// control sends a control request with a text body and returns the status and body of the response.
func (a *api) control(method, path, body string) (int, string) {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), method, "http://ksef.test/simulator/"+path,
		strings.NewReader(body))
	require.NoError(a.t, err)
	resp, err := a.client.Do(request)
	require.NoError(a.t, err)
	data, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	require.NoError(a.t, resp.Body.Close())
	return resp.StatusCode, string(data)
}

func TestStateShowsTokensSessionsAndRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		reference, token := a.issue(s, "InvoiceRead", "InvoiceWrite")

		status, body := a.control("GET", "state", "")
		require.Equal(t, http.StatusOK, status)
		want := fmt.Sprintf(`{
			"tokens": [{"referenceNumber": %q, "status": "Pending", "description": "Token testowy",
				"contextIdentifier": {"type": "Nip", "value": "5265877635"},
				"requestedPermissions": ["InvoiceRead",
					"InvoiceWrite"], "dateCreated": "2000-01-01T00:00:00.0000000+00:00"}],
			"sessions": [{"referenceNumber": %q, "status": 200,
				"contextIdentifier": {"type": "Nip", "value": "5265877635"},
				"identifier": {"type": "Nip", "value": "5265877635"}, "tokenReferenceNumber": "",
				"startDate": "2000-01-01T00:00:00.0000000+00:00", "isTokenRedeemed": true, "active": true}],
			"certificates": [], "grants": [], "invoiceSessions": [],
			"requests": {"POST /auth/challenge": {"200": 1}, "POST /auth/xades-signature": {"202": 1},
				"POST /auth/token/redeem": {"200": 1}, "POST /tokens": {"202": 1}}}`, reference, s.reference)
		require.JSONEq(t, want, body)
		for _, secret := range []string{token, token[len(token)-64:], s.access, s.refresh} {
			require.NotContains(t, body, secret)
		}
	})
}

func TestControlSignedRequests(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	first, second := a.sign(a.request(seal(t), nipXML)), []byte("<a/>")
	a.want(http.StatusAccepted, "POST", "/auth/xades-signature", "", first)
	a.refused(a.do("POST", "/auth/xades-signature", "", second), 9102, "")

	_, body := a.control("GET", "signed-requests", "")
	var documents [][]byte
	require.NoError(t, json.Unmarshal([]byte(body), &documents))
	require.Equal(t, [][]byte{first, second}, documents)
	require.Equal(t, documents, a.sim.SignedRequests())
}

func TestControlFaultsAndClock(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: time.Hour})
	s := a.login(seal(t), nipXML)
	status, _ := a.control("POST", "faults",
		`{"endpoint":"POST /tokens","kind":"status","status":503,"retry_after":60,"times":-1}`)
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, "60", a.want(503, "POST", "/tokens", s.access, tokenBody).header.Get("Retry-After"))
	status, _ = a.control("DELETE", "faults", "")
	require.Equal(t, http.StatusNoContent, status)
	a.issue(s, "InvoiceRead")

	status, _ = a.control("POST", "clock", `{"advance":"1h"}`)
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, "Active", a.sim.State().Tokens[0].Status)
}

func TestControlInvalidRequest(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	tests := []struct{ path, body, want string }{
		{"faults", `{"endpoint":"*","kind":"delay","delay":"soon"}`, "delay"},
		{"faults", `{"endpoint":"*"}`, "kind"},
		{"faults", "{", "JSON"},
		{"clock", `{"advance":"-1h"}`, "forward only"},
		{"clock", `{"advance":"late"}`, "not a duration"},
		{"clock", `{}`, "give advance or set"},
		{"clock", `{"set":"0001-01-01T00:00:00Z"}`, "forward only"},
		{"clock", `{"sett":"2030-01-01T00:00:00Z"}`, "give advance or set"},
		{"clock", `{"set":"2001-01-01T00:00:00Z"}`, "forward only"},
		{"clock", `{"set":"9999-01-01T00:00:00Z"}`, "too far ahead"},
		{"clock", `{"set":"tomorrow"}`, `set \"tomorrow\" is not a time`},
		{"clock", `{"set":"2030-01-01T00:00:00Z","advance":"1h"}`, "exclude each other"},
		{"tokens", `{"tokens":"forbidden"}`, "use accepted, refused or expiring"},
		{"tokens", `{"tokens":"expiring","validity_days":366}`, "use 1 to 365"},
		{"tokens", `{"tokens":"expiring","validity_days":"30"}`, "validity_days"},
		{"tokens", `{"tokens":"expiring"}{}`, "not valid JSON"},
		{"tokens", `{}`, "use accepted, refused or expiring"},
	}
	for _, test := range tests {
		status, body := a.control("POST", test.path, test.body)
		require.Equal(t, http.StatusBadRequest, status, test.body)
		require.Contains(t, body, test.want)
		require.Equal(t, strings.Contains(test.want, "JSON"), strings.Contains(body, "JSON"), body)
	}
}

// The certificate authority is valid for fifty years from the start of the simulator.
func TestClockEndsWithAuthority(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	require.NoError(t, a.sim.SetClock(time.Now().AddDate(40, 0, 0)))
	require.ErrorContains(t, a.sim.SetClock(time.Now().AddDate(60, 0, 0)), "too far ahead")
}

func TestClockNeverGoesBack(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	for range 3 {
		before := a.now()
		a.sim.Advance(math.MaxInt64)
		require.False(t, a.now().Before(before))
	}
}

// now returns the simulator's clock from its responses.
func (a *api) now() time.Time {
	a.t.Helper()
	now, err := http.ParseTime(a.want(http.StatusOK, "POST", "/auth/challenge", "", nil).header.Get("Date"))
	require.NoError(a.t, err)
	return now
}

func TestReset(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	a.issue(s, "InvoiceRead")
	require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultGarbage}))
	a.sim.Advance(time.Hour)
	status, _ := a.control("POST", "reset", "")
	require.Equal(t, http.StatusNoContent, status)

	empty := newAPI(t, simulator.Options{})
	require.Equal(t, empty.sim.State(), a.sim.State())
	require.Empty(t, a.sim.SignedRequests())
	a.want(http.StatusUnauthorized, "GET", "/tokens", s.access, nil)
	a.login(seal(t), nipXML)
}

func TestOptionsInvalid(t *testing.T) {
	tests := map[string]simulator.Options{
		"\"205\"":      {DeleteDeadToken: "205"},
		"\"Anything\"": {OwnerPermissions: []string{"Anything"}},
		"use accepted": {Tokens: "forbidden"},
		"use 1 to 365": {TokenValidity: 366},
		"grant 0":      {Grants: []simulator.Grant{{Context: simulator.Identifier{Type: "Nip", Value: "1"}}}},
	}
	for text, options := range tests {
		_, err := simulator.New(options)
		require.ErrorContains(t, err, text)
	}
}

// With many concurrent clients nothing is lost or made twice. The race detector covers the rest.
func TestConcurrentClients(t *testing.T) {
	const clients, each = 8, 5
	a := newAPI(t, simulator.Options{Limits: unlimited()})
	c := seal(t)
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			s := a.login(c, nipXML)
			for range each {
				reference, _ := a.issue(s, "InvoiceRead")
				a.tokenStatus(s, reference)
				a.do("GET", "/tokens", s.access, nil)
				a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, s.access, nil)
				a.sim.State()
			}
			a.sim.SetLimits(unlimited())
			a.want(http.StatusNoContent, "DELETE", "/auth/sessions/current", s.refresh, nil)
		})
	}
	wait.Wait()
	state := a.sim.State()
	require.Len(t, state.Tokens, clients*each)
	require.Equal(t, clients*each, state.Requests["DELETE /tokens/{referenceNumber}"]["204"])
}

func TestChallengeUsedOnceConcurrently(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	document := a.sign(a.request(seal(t), nipXML))
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() { a.do("POST", "/auth/xades-signature", "", document) })
	}
	wait.Wait()
	require.Equal(t, map[string]int{"202": 1, "400": 3}, a.sim.State().Requests["POST /auth/xades-signature"])
}

// The clock can be set years ahead. KSeF would have other keys by then, but valid ones.
func TestPublicKeysValidAtAnyClock(t *testing.T) {
	for _, offset := range []time.Duration{-1000 * time.Hour, 0, 1000 * time.Hour} {
		a := newAPI(t, simulator.Options{ClockOffset: offset})
		for range 2 {
			resp, err := a.send("GET", "/v2/security/public-key-certificates", "", nil)
			require.NoError(t, err)
			var keys []struct{ ValidFrom, ValidTo time.Time }
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&keys))
			require.NoError(t, resp.Body.Close())
			require.Len(t, keys, 2)
			for _, key := range keys {
				require.False(t, key.ValidFrom.After(time.Now()) || key.ValidFrom.After(a.now()))
				require.True(t, key.ValidTo.After(a.now()))
			}
			a.sim.Advance(3 * 365 * 24 * time.Hour)
		}
	}
}
