// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestUnknownPath(t *testing.T) {
	tests := map[string]struct {
		method, path string
		status       int
		allow        string
	}{
		"no such path":       {"GET", "/nowhere", 404, ""},
		"below a path":       {"GET", "/tokens/20250625-EC-20F5EE4000-DA48AE4124-46/more", 404, ""},
		"left out":           {"POST", "/invoices/exports", 404, ""},
		"the root":           {"GET", "/", 404, ""},
		"another method":     {"PATCH", "/tokens", 405, "GET, POST"},
		"another method too": {"GET", "/auth/token/redeem", 405, "POST"},
		"of a template":      {"PUT", "/tokens/20250625-EC-20F5EE4000-DA48AE4124-46", 405, "GET, DELETE"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, simulator.Options{})
			older := a.want(test.status, test.method, test.path, "", nil)
			require.Equal(t, "application/json; charset=utf-8", older.header.Get("Content-Type"))
			require.Equal(t, test.allow, older.header.Get("Allow"))
			require.NotEmpty(t, older.header.Get("Date"))
			code, _ := older.code()
			require.Equal(t, test.status, code)
			require.NotEmpty(t, older.text("exception.serviceCode"))
			require.NotEmpty(t, older.text("exception.timestamp"))

			a.header.Set("X-Error-Format", "problem-details")
			newer := a.want(test.status, test.method, test.path, "", nil)
			require.Equal(t, "application/problem+json", newer.header.Get("Content-Type"))
			require.Equal(t, http.StatusText(test.status), newer.text("title"))
			require.Equal(t, test.status, newer.number("status"))
			require.Equal(t, "/v2"+test.path, newer.text("instance"))
			require.NotEmpty(t, newer.text("detail"))
			require.NotEmpty(t, newer.text("traceId"))
			require.NotEmpty(t, newer.text("timestamp"))
			require.Empty(t, a.sim.State().Requests)
		})
	}
}
