// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// Reset may run between the check of a bearer token and its endpoint.
func TestResetPreventsRedeem(t *testing.T) {
	s, err := New(Options{})
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v2/auth/token/redeem", nil)
	known := &store.Login{Reference: "20250625-AU-20F5EE4000-DA48AE4124-46", Owner: store.Owner{Token: "a token"},
		Decided: true}
	s.store.AddLogin(known)
	s.Reset()
	resp := s.redeem(&request{Request: r, now: s.now(), login: known})
	require.Equal(t, http.StatusBadRequest, resp.status)
	require.Equal(t, 21304, resp.body.(exceptionResponse).Exception.Details[0].Code)
}
