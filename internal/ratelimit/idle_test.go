// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestCloseIdle(t *testing.T) {
	for name, busy := range map[string]func(t *testing.T, a, other *ratelimit.Limiter){
		"a request":            func(t *testing.T, a, _ *ratelimit.Limiter) { send(t, a, 1) },
		"a request of another": func(t *testing.T, _, other *ratelimit.Limiter) { send(t, other, 1) },
		"a request in flight":  func(t *testing.T, a, _ *ratelimit.Limiter) { acquire(t, a, now) },
		"a block": func(t *testing.T, a, _ *ratelimit.Limiter) {
			require.NoError(t, a.Block(ctx(), revoke, time.Now().Add(time.Hour)))
		},
		"limits of its own":     func(_ *testing.T, a, _ *ratelimit.Limiter) { a.SetLimits(revoke, ratelimit.Limits{PerHour: 60}) },
		"the windows of a past": func(t *testing.T, a, _ *ratelimit.Limiter) { acquire(t, a, now).Cancel(); send(t, a, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := ratelimit.NewRegistry()
				a, other := open(t, r, &memory{}), open(t, r, &memory{})
				busy(t, a, other)
				require.False(t, a.CloseIdle(0))
			})
		})
	}

	t.Run("an hour after the windows are empty", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := open(t, ratelimit.NewRegistry(), &memory{})
			send(t, a, 120)
			time.Sleep(keptHour)
			require.False(t, a.CloseIdle(time.Hour))
			time.Sleep(time.Hour - 1)
			require.False(t, a.CloseIdle(time.Hour))
			time.Sleep(time.Nanosecond)
			require.True(t, a.CloseIdle(time.Hour))
			_, err := a.Acquire(ctx(), revoke, now)
			require.ErrorIs(t, err, ratelimit.ErrClosed)
		})
	})

	t.Run("a request begins the hour anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := open(t, ratelimit.NewRegistry(), &memory{})
			require.False(t, a.CloseIdle(time.Hour))
			time.Sleep(time.Hour)
			acquire(t, a, now).Cancel()
			require.False(t, a.CloseIdle(time.Hour))
		})
	})

	t.Run("eight days after KSeF has told its limits last", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const day = 24 * time.Hour
			journal := &memory{}
			a, own := open(t, ratelimit.NewRegistry(), journal), ratelimit.Limits{PerHour: 60}
			a.SetLimits(revoke, own)
			time.Sleep(7 * day)
			a.SetLimits(revoke, own)
			send(t, a, 1)
			time.Sleep(7 * day)
			require.False(t, a.CloseIdle(0))
			require.NoError(t, a.Close(ctx()))
			a = open(t, ratelimit.NewRegistry(), journal)
			require.False(t, a.CloseIdle(0))
			time.Sleep(day)
			require.True(t, a.CloseIdle(0))
		})
	})
}
