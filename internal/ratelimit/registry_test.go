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
	for name, busy := range map[string]func(t *testing.T, l, other *ratelimit.Limiter){
		"a request":            func(t *testing.T, l, _ *ratelimit.Limiter) { send(t, l, 1) },
		"a request of another": func(t *testing.T, _, other *ratelimit.Limiter) { send(t, other, 1) },
		"a request in flight":  func(t *testing.T, l, _ *ratelimit.Limiter) { acquire(t, l, now) },
		"a block": func(t *testing.T, l, _ *ratelimit.Limiter) {
			require.NoError(t, l.Block(ctx(), revoke, time.Now().Add(time.Hour)))
		},
		"limits of its own":     func(_ *testing.T, l, _ *ratelimit.Limiter) { l.SetLimits(revoke, ratelimit.Limits{PerHour: 60}) },
		"the windows of a past": func(t *testing.T, l, _ *ratelimit.Limiter) { acquire(t, l, now).Cancel(); send(t, l, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := ratelimit.NewRegistry()
				l, other := open(t, r, &memory{}), open(t, r, &memory{})
				busy(t, l, other)
				require.False(t, l.CloseIdle(0))
			})
		})
	}

	t.Run("an hour after the windows are empty", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, ratelimit.NewRegistry(), &memory{})
			send(t, l, 120)
			time.Sleep(keptHour)
			require.False(t, l.CloseIdle(time.Hour))
			time.Sleep(time.Hour - 1)
			require.False(t, l.CloseIdle(time.Hour))
			time.Sleep(time.Nanosecond)
			require.True(t, l.CloseIdle(time.Hour))
			_, err := l.Acquire(ctx(), revoke, now)
			require.ErrorIs(t, err, ratelimit.ErrClosed)
		})
	})

	t.Run("a request starts the hour anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, ratelimit.NewRegistry(), &memory{})
			require.False(t, l.CloseIdle(time.Hour))
			time.Sleep(time.Hour)
			acquire(t, l, now).Cancel()
			require.False(t, l.CloseIdle(time.Hour))
		})
	})

	t.Run("eight days after the last report of limits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const day = 24 * time.Hour
			journal := &memory{}
			l, own := open(t, ratelimit.NewRegistry(), journal), ratelimit.Limits{PerHour: 60}
			l.SetLimits(revoke, own)
			time.Sleep(7 * day)
			l.SetLimits(revoke, own)
			send(t, l, 1)
			time.Sleep(7 * day)
			require.False(t, l.CloseIdle(0))
			require.NoError(t, l.Close(ctx()))
			l = open(t, ratelimit.NewRegistry(), journal)
			require.False(t, l.CloseIdle(0))
			time.Sleep(day)
			require.True(t, l.CloseIdle(0))
		})
	})
}

// TestOpenFullBesideOthers opens a limiter with a damaged journal beside another limiter.
func TestOpenFullBesideOthers(t *testing.T) {
	for name, shared := range map[string]bool{
		"that was not in use when it sent": false,
		"whose journal counts it":          true,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, other := ratelimit.NewRegistry(), &memory{}
				if shared {
					open(t, r, other)
				}
				send(t, open(t, r, &memory{}), 24)

				r = ratelimit.NewRegistry()
				open(t, r, other.afterCrash())
				l, err := r.OpenFull(ctx(), key, &memory{data: []byte("damaged")}, []string{revoke})
				require.NoError(t, err)
				used := usage(t, l, revoke).Hour.Used
				if shared {
					require.Less(t, used, 24+2*8)
				} else {
					require.Equal(t, ratelimit.StandardLimits().PerHour, used)
				}
			})
		})
	}
}
