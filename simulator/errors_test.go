// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestErrorFormat(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: simulator.Windows{PerHour: 1}}})
	s := a.login(seal(t), nipXML)

	older := a.do("GET", "/tokens?pageSize=1", s.access, nil)
	a.refused(older, 21405, "pageSize")
	require.Equal(t, "application/json; charset=utf-8", older.header.Get("Content-Type"))
	require.NotEmpty(t, older.text("exception.serviceCode"))
	limited := a.want(http.StatusTooManyRequests, "GET", "/tokens", s.access, nil)
	require.Equal(t, 429, limited.number("status.code"))
	require.Equal(t, "application/json; charset=utf-8", limited.header.Get("Content-Type"))

	a.header.Set("X-Error-Format", "problem-details")
	a.sim.SetLimits(simulator.Limits{Context: simulator.Windows{PerHour: 1}})
	newer := a.do("GET", "/tokens?pageSize=1", s.access, nil)
	a.refused(newer, 21405, "pageSize")
	require.Equal(t, "application/problem+json", newer.header.Get("Content-Type"))
	require.Regexp(t, "^[0-9a-f]{32}$", newer.text("traceId"))
	require.Equal(t, "/v2/tokens", newer.text("instance"))
	limited = a.want(http.StatusTooManyRequests, "GET", "/tokens", s.access, nil)
	require.Equal(t, "application/problem+json", limited.header.Get("Content-Type"))
	require.NotEmpty(t, limited.header.Get("Retry-After"))
}

// test_a_missing_token_401_is_read_as_problem_details (stacking-hq/ksef2) runs daily against TEST,
// which labels this body application/json.
func TestErrorAccessRefusedContentType(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	for _, format := range []string{"", "problem-details"} {
		a.header.Set("X-Error-Format", format)
		for _, bearer := range []string{"", "nonsense", "a.b.c", "..", "."} {
			got := a.want(http.StatusUnauthorized, "GET", "/tokens", bearer, nil)
			require.Equal(t, "application/json; charset=utf-8", got.header.Get("Content-Type"))
			require.Equal(t, "Wymagane jest uwierzytelnienie.", got.text("detail"))
			require.Regexp(t, "^[0-9a-f]{32}$", got.text("traceId"))
		}
	}
}

func TestSystemWarningReturned(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	a.header.Set("X-Test-System-Warning", "[sig-001]: uwaga")
	require.Equal(t, "[sig-001]: uwaga", a.do("POST", "/auth/challenge", "", nil).header.Get("X-System-Warning"))
}
