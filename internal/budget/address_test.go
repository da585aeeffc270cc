// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package budget_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/internal/budget"
)

var address = budget.Key{API: key.API}

func openAddress(t testing.TB, r *budget.Registry, j budget.Journal) *budget.Account {
	t.Helper()
	a, err := r.Open(ctx(), address, j)
	require.NoError(t, err)
	return a
}

func TestAllRequests(t *testing.T) {
	t.Run("have no limit unless told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memory{}
			a := openAddress(t, budget.NewRegistry(), j)
			for range 1000 {
				s, err := a.Acquire(ctx(), budget.AllRequests, now)
				require.NoError(t, err)
				s.Done()
			}
			require.Zero(t, j.count())
			require.True(t, a.CloseIdle(0), "there is nothing to remember")
		})
	})

	t.Run("count from before a limit is told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := openAddress(t, budget.NewRegistry(), &memory{})
			for range 4 {
				s, err := a.Acquire(ctx(), budget.AllRequests, now)
				require.NoError(t, err)
				s.Done()
			}
			a.SetLimits(budget.AllRequests, budget.Limits{PerHour: 5})
			_, err := a.Acquire(ctx(), budget.AllRequests, now)
			require.NoError(t, err)
			_, err = a.Acquire(ctx(), budget.AllRequests, now)
			require.ErrorAs(t, err, new(*budget.ExhaustedError))
		})
	})

	t.Run("are reserved anew after a time without a limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memory{}
			a := openAddress(t, budget.NewRegistry(), j)
			send := func(endpoint string) {
				s, err := a.Acquire(ctx(), endpoint, now)
				require.NoError(t, err)
				s.Done()
			}
			a.SetLimits(budget.AllRequests, budget.Limits{PerHour: 50})
			send(budget.AllRequests)
			a.SetLimits(budget.AllRequests, budget.Limits{})
			send("POST /auth/challenge")
			a.SetLimits(budget.AllRequests, budget.Limits{PerHour: 50})
			send(budget.AllRequests)
			used := usage(t, openAddress(t, budget.NewRegistry(), j.left()), budget.AllRequests).Hour.Used
			require.GreaterOrEqual(t, used, 2)
		})
	})

	t.Run("limit and windows survive a restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, mine, theirs := budget.NewRegistry(), &memory{}, &memory{}
			a, b := openAddress(t, r, mine), openAddress(t, r, theirs)
			b.SetLimits(budget.AllRequests, budget.Limits{PerSecond: -1, PerMinute: -1, PerHour: 5})
			for range 4 {
				s, err := a.Acquire(ctx(), budget.AllRequests, now)
				require.NoError(t, err)
				s.Done()
			}
			for _, j := range []*memory{mine, theirs} {
				u := usage(t, openAddress(t, budget.NewRegistry(), j.left()), budget.AllRequests)
				require.Equal(t, []int{0, 0, 5}, []int{u.Second.Limit, u.Minute.Limit, u.Hour.Limit})
				require.GreaterOrEqual(t, u.Hour.Used, 4)
			}
			require.False(t, a.CloseIdle(0))
		})
	})

	t.Run("show nothing in windows without a limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := openAddress(t, budget.NewRegistry(), &memory{})
			s, err := a.Acquire(ctx(), budget.AllRequests, now)
			require.NoError(t, err)
			u := usage(t, a, budget.AllRequests)
			require.Equal(t, 1, u.InFlight)
			require.Zero(t, u.Second.Used+u.Minute.Used+u.Hour.Used)
			s.Done()
		})
	})
}

// Far ahead, the slowest of the windows that have a limit sets the pace.
func TestNextSlotFarAhead(t *testing.T) {
	for name, test := range map[string]struct {
		limits   budget.Limits
		from, to time.Duration
	}{
		"the hour":   {budget.Limits{PerSecond: 10, PerMinute: 30, PerHour: 120}, 99 * time.Hour, 101 * time.Hour},
		"the minute": {budget.Limits{PerSecond: 10, PerMinute: 30}, 399 * time.Minute, 405 * time.Minute},
		"no limit":   {budget.Limits{}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := open(t, budget.NewRegistry(), &memory{})
				a.SetLimits(revoke, test.limits)
				ahead := time.Until(a.NextSlot(revoke, 12000))
				require.True(t, ahead >= test.from && ahead <= test.to, ahead)
			})
		})
	}
}
