// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// tooManyRequestTest, badRequestTest, unauthorizedTest and forbiddenTest of
// ExceptionsApiIntegrationTest (CIRFMF/ksef-client-java) check these fields.
func TestProblemDetails(t *testing.T) {
	synctest.Test(t, testProblemDetails)
}

func testProblemDetails(t *testing.T) {
	a := newAPI(t, simulator.Options{
		Limits:           simulator.Limits{Context: simulator.Windows{PerSecond: 1}},
		OwnerPermissions: []string{"InvoiceRead"},
	})
	a.header.Set("X-Error-Format", "problem-details")
	s := a.login(seal(t), nipXML)
	a.want(http.StatusOK, "GET", "/limits/subject", s.access, nil)
	for name, test := range map[string]struct {
		got                  response
		status               int
		title, detail, where string
	}{
		"400": {
			a.do("GET", "/tokens?pageSize=1", s.access,
				nil), 400, "Bad Request", "Żądanie jest nieprawidłowe.", "/v2/tokens",
		},
		"401": {
			a.do("GET", "/tokens", "invalidToken",
				nil), 401, "Unauthorized", "Wymagane jest uwierzytelnienie.", "/v2/tokens",
		},
		"403": {
			a.do("POST", "/sessions/online", s.access, map[string]any{}), 403, "Forbidden",
			"Brak wymaganych uprawnień do wykonania operacji w bieżącym kontekście.", "/v2/sessions/online",
		},
		"429": {
			a.do("GET", "/limits/subject", s.access, nil), 429, "Too Many Requests",
			"Przekroczono limit 1 żądań na sekundę. Spróbuj ponownie po 1 sekundach.", "/v2/limits/subject",
		},
	} {
		require.Equal(t, test.status, test.got.status, name)
		if test.status != http.StatusUnauthorized { // TestErrorAccessRefusedContentType
			require.Equal(t, "application/problem+json", test.got.header.Get("Content-Type"))
		}
		require.Equal(t, test.title, test.got.text("title"))
		require.Equal(t, test.status, test.got.number("status"))
		require.Equal(t, test.detail, test.got.text("detail"))
		require.Equal(t, test.where, test.got.text("instance"))
		require.Regexp(t, "^[0-9a-f]{32}$", test.got.text("traceId"))
		require.NotEmpty(t, test.got.text("timestamp"))
	}
}
