// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRateLimits(t *testing.T) {
	const other = `"other":{"perSecond":10,"perMinute":-1,"perHour":120}`
	for name, test := range map[string]struct {
		body string
		want RateLimitGroups
	}{
		"before 2.8": {`{` + other + `}`, RateLimitGroups{Other: &RateLimits{10, -1, 120}}},
		"since 2.8": {
			`{` + other + `,"onlineSessionClose":{"perSecond":1,"perMinute":2,"perHour":3},"anonymous":{"perSecond":60,"perMinute":-1,"perHour":-1},
				"global":{"perSecond":-1,"perMinute":-1,"perHour":-1}}`,
			RateLimitGroups{Other: &RateLimits{10, -1, 120}, Anonymous: &RateLimits{60, -1, -1}, Global: &RateLimits{-1, -1, -1}},
		},
		"null":                {`{"other":null,"global":null}`, RateLimitGroups{}},
		"window not reported": {`{"other":{"perSecond":5,"perMinute":null}}`, RateLimitGroups{Other: &RateLimits{PerSecond: 5}}},
	} {
		t.Run(name, func(t *testing.T) {
			reported, err := newClient(t, &answering{status: 200, body: test.body}).RateLimits(t.Context())
			require.NoError(t, err)
			require.Equal(t, test.want, reported)
		})
	}
}

// A permit begins when its bearer token is at hand: to get one may take a login.
func TestPermit_begin(t *testing.T) {
	t.Run("after the bearer token", func(t *testing.T) {
		limiter, server := &recordingLimiter{}, &answering{status: 204}
		tokens := tokenFunc(func() (AccessToken, error) {
			require.Len(t, limiter.admitted, 1)
			require.Zero(t, limiter.begun)
			return Secret("access"), nil
		})
		require.NoError(t, newClient(t, server).WithTokenSource(tokens).WithLimiter(limiter).RevokeToken(t.Context(), "x"))
		require.Equal(t, 1, limiter.begun)
		require.Len(t, limiter.done, 1)
	})
	t.Run("without a bearer token there is nothing to begin", func(t *testing.T) {
		limiter, server := &recordingLimiter{}, &answering{status: 204}
		tokens := tokenFunc(func() (AccessToken, error) { return nil, errors.New("no login") })
		require.Error(t, newClient(t, server).WithTokenSource(tokens).WithLimiter(limiter).RevokeToken(t.Context(), "x"))
		require.Zero(t, limiter.begun)
		require.Equal(t, 1, limiter.cancelled)
	})
	t.Run("refused", func(t *testing.T) {
		limiter, server := &recordingLimiter{refuseBegin: errors.New("no permit")}, &answering{status: 204}
		require.ErrorIs(t, newClient(t, server).WithLimiter(limiter).RevokeToken(t.Context(), "x"), limiter.refuseBegin)
		require.Nil(t, server.seen)
		require.Equal(t, 1, limiter.cancelled)
		require.Empty(t, limiter.done)
	})
}
