// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

// A client with exact windows sends a request as soon as an older one has left the second, also
// while another of its requests is delayed between arrival and limiter. The delayed one must not
// count in an earlier second.
func TestRateLimitCountsOnAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Limits: limits.Limits{Context: limits.Windows{PerSecond: 3, PerMinute: -1, PerHour: -1}}})
		require.NoError(t, err)
		arrive := func() *request {
			return &request{Request: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/tokens", nil),
				now: s.now()}
		}

		require.Nil(t, s.admit(arrive(), "GET /tokens", limits.GroupOther, ksef.Identifier{}))
		time.Sleep(500 * time.Millisecond)
		require.Nil(t, s.admit(arrive(), "GET /tokens", limits.GroupOther, ksef.Identifier{}))
		time.Sleep(490 * time.Millisecond)
		delayed := arrive()
		time.Sleep(20 * time.Millisecond) // the first has left the second
		require.Nil(t, s.admit(arrive(), "GET /tokens", limits.GroupOther, ksef.Identifier{}))
		require.Nil(t, s.admit(delayed, "GET /tokens", limits.GroupOther, ksef.Identifier{}))
	})
}
