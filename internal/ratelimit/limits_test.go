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

func TestLimitsDefaultToDocumented(t *testing.T) {
	standard, auth := ratelimit.Limits{PerSecond: 10, PerMinute: 30, PerHour: 120}, ratelimit.Limits{PerSecond: 60}
	for endpoint, want := range map[string]ratelimit.Limits{
		"POST /tokens":                          standard,
		"GET /tokens/{referenceNumber}":         standard,
		"POST /certificates/enrollments":        standard,
		"GET /auth/sessions":                    standard,
		"DELETE /auth/sessions/current":         standard,
		"GET /rate-limits":                      standard,
		"POST /auth/challenge":                  auth,
		"GET /auth/{referenceNumber}":           auth,
		"POST /auth/token/refresh":              auth,
		"GET /security/public-key-certificates": auth,
		ratelimit.AllRequests:                   {},
	} {
		require.Equal(t, want, ratelimit.DocumentedLimits(endpoint), endpoint)
	}
}

func TestSetLimits(t *testing.T) {
	t.Run("raising them releases waiters", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, ratelimit.NewRegistry(), &memory{})
			send(t, l, 10)
			w := waiting(ctx(), l, hour, synctest.Wait)
			begin := time.Now()
			l.SetLimits(revoke, ratelimit.Limits{PerSecond: 11})
			r := <-w
			require.NoError(t, r.err)
			require.Equal(t, begin, r.at)
			r.permit.Done()
			require.NoError(t, l.Close(ctx()))
		})
	})

	t.Run("lowering them refuses waiters that are too late now", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, ratelimit.NewRegistry(), &memory{})
			send(t, l, 10)
			w := waiting(ctx(), l, ratelimit.Wait{AtMost: time.Minute}, synctest.Wait)
			begin := time.Now()
			l.SetLimits(revoke, ratelimit.Limits{PerHour: 5})
			r := <-w
			require.Equal(t, begin.Add(keptHour), refused(t, r.err).Next)
			require.Equal(t, begin, r.at)
		})
	})

	t.Run("they hold for all limiters of the key and survive a restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, j := ratelimit.NewRegistry(), &memory{}
			l, b := open(t, r, j), open(t, r, &memory{})
			l.SetLimits(revoke, ratelimit.Limits{PerSecond: -1, PerMinute: 2, PerHour: 3})
			require.Equal(t, 2, usage(t, b, revoke).Minute.Limit)
			send(t, l, 1)

			l = open(t, ratelimit.NewRegistry(), j.afterCrash())
			u := usage(t, l, revoke)
			require.Equal(t, []int{0, 2, 3}, []int{u.Second.Limit, u.Minute.Limit, u.Hour.Limit})
		})
	})

	t.Run("of two journals the newer limits count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			old, young := &memory{}, &memory{}
			for i, j := range []*memory{old, young} {
				l := open(t, ratelimit.NewRegistry(), j)
				l.SetLimits(revoke, ratelimit.Limits{PerHour: 5 + i})
				require.NoError(t, l.Close(ctx()))
				time.Sleep(time.Minute)
			}
			for _, journals := range [][]*memory{{old, young}, {young, old}} {
				r := ratelimit.NewRegistry()
				open(t, r, journals[0])
				require.Equal(t, 6, usage(t, open(t, r, journals[1]), revoke).Hour.Limit)
			}
		})
	})

	t.Run("without any limit nothing is stored or written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memory{}
			l := open(t, ratelimit.NewRegistry(), j)
			l.SetLimits(revoke, ratelimit.Limits{})
			send(t, l, 1000)
			require.Zero(t, usage(t, l, revoke).Hour.Used)
			require.Zero(t, j.count())
		})
	})
}
