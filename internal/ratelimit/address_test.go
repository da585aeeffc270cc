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

var address = ratelimit.Key{API: key.API}

func openAddress(t testing.TB, r *ratelimit.Registry, j ratelimit.Journal) *ratelimit.Limiter {
	t.Helper()
	l, err := r.Open(ctx(), address, j)
	require.NoError(t, err)
	return l
}

func TestAllRequests(t *testing.T) {
	t.Run("have no limit by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memory{}
			l := openAddress(t, ratelimit.NewRegistry(), j)
			for range 1000 {
				p, err := l.Acquire(ctx(), ratelimit.AllRequests, now)
				require.NoError(t, err)
				p.Done()
			}
			require.Zero(t, j.count())
			require.True(t, l.CloseIdle(0), "there is nothing to remember")
		})
	})

	t.Run("count from before a limit is set", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := openAddress(t, ratelimit.NewRegistry(), &memory{})
			for range 4 {
				p, err := l.Acquire(ctx(), ratelimit.AllRequests, now)
				require.NoError(t, err)
				p.Done()
			}
			l.SetLimits(ratelimit.AllRequests, ratelimit.Limits{PerHour: 5})
			_, err := l.Acquire(ctx(), ratelimit.AllRequests, now)
			require.NoError(t, err)
			_, err = l.Acquire(ctx(), ratelimit.AllRequests, now)
			require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))
		})
	})

	t.Run("are reserved anew after a time without a limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memory{}
			l := openAddress(t, ratelimit.NewRegistry(), j)
			send := func(endpoint string) {
				p, err := l.Acquire(ctx(), endpoint, now)
				require.NoError(t, err)
				p.Done()
			}
			l.SetLimits(ratelimit.AllRequests, ratelimit.Limits{PerHour: 50})
			send(ratelimit.AllRequests)
			l.SetLimits(ratelimit.AllRequests, ratelimit.Limits{})
			send("POST /auth/challenge")
			l.SetLimits(ratelimit.AllRequests, ratelimit.Limits{PerHour: 50})
			send(ratelimit.AllRequests)
			used := usage(t, openAddress(t, ratelimit.NewRegistry(), j.afterCrash()), ratelimit.AllRequests).Hour.Used
			require.GreaterOrEqual(t, used, 2)
		})
	})

	t.Run("limit and windows survive a restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, mine, theirs := ratelimit.NewRegistry(), &memory{}, &memory{}
			l, b := openAddress(t, r, mine), openAddress(t, r, theirs)
			b.SetLimits(ratelimit.AllRequests, ratelimit.Limits{PerSecond: -1, PerMinute: -1, PerHour: 5})
			for range 4 {
				p, err := l.Acquire(ctx(), ratelimit.AllRequests, now)
				require.NoError(t, err)
				p.Done()
			}
			for _, j := range []*memory{mine, theirs} {
				u := usage(t, openAddress(t, ratelimit.NewRegistry(), j.afterCrash()), ratelimit.AllRequests)
				require.Equal(t, []int{0, 0, 5}, []int{u.Second.Limit, u.Minute.Limit, u.Hour.Limit})
				require.GreaterOrEqual(t, u.Hour.Used, 4)
			}
			require.False(t, l.CloseIdle(0))
		})
	})

	t.Run("show nothing in windows without a limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := openAddress(t, ratelimit.NewRegistry(), &memory{})
			p, err := l.Acquire(ctx(), ratelimit.AllRequests, now)
			require.NoError(t, err)
			u := usage(t, l, ratelimit.AllRequests)
			require.Equal(t, 1, u.InFlight)
			require.Zero(t, u.Second.Used+u.Minute.Used+u.Hour.Used)
			p.Done()
		})
	})
}

// Far ahead, the slowest of the windows that have a limit sets the pace.
func TestNextPermitFarAhead(t *testing.T) {
	for name, test := range map[string]struct {
		limits   ratelimit.Limits
		from, to time.Duration
	}{
		"the hour":   {ratelimit.Limits{PerSecond: 10, PerMinute: 30, PerHour: 120}, 99 * time.Hour, 101 * time.Hour},
		"the minute": {ratelimit.Limits{PerSecond: 10, PerMinute: 30}, 399 * time.Minute, 405 * time.Minute},
		"no limit":   {ratelimit.Limits{}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, ratelimit.NewRegistry(), &memory{})
				l.SetLimits(revoke, test.limits)
				ahead := time.Until(l.NextPermit(revoke, 12000))
				require.True(t, ahead >= test.from && ahead <= test.to, ahead)
			})
		})
	}
}
