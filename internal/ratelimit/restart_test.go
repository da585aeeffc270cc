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

func TestACleanCloseKeepsTheExactWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, j := ratelimit.NewRegistry(), &memory{}
		a := open(t, r, j)
		for range 40 {
			send(t, a, 1)
			time.Sleep(1300 * time.Millisecond)
		}
		want := a.Usage()
		require.NoError(t, a.Close(ctx()))
		again := []*ratelimit.Limiter{open(t, r, j), open(t, ratelimit.NewRegistry(), j.left())}
		for _, a := range again {
			got := a.Usage()
			require.True(t, want[0].Next.Equal(got[0].Next))
			got[0].Next = want[0].Next
			require.Equal(t, want, got)
		}
	})
}

func TestAfterACrashWhatMayHaveBeenSentCountsFromTheLoadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		a := open(t, ratelimit.NewRegistry(), j)
		for sent := range 30 {
			next := open(t, ratelimit.NewRegistry(), j.left())
			used := 0
			if sent > 0 {
				used = usage(t, next, revoke).Hour.Used
			}
			require.GreaterOrEqual(t, used, sent)
			require.LessOrEqual(t, used, sent+8)
			send(t, a, 1)
		}
		time.Sleep(30 * time.Minute)
		next := open(t, ratelimit.NewRegistry(), j.left())
		require.Equal(t, 8, usage(t, next, revoke).Minute.Used, "8 that may have been sent just before the crash")
		require.NoError(t, next.Close(ctx()))
	})
}

func TestAfterACrashWhatWasInFlightOrReservedAtAnyLaterWriteCountsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		a := open(t, ratelimit.NewRegistry(), j)
		acquire(t, a, now) // in flight until the crash
		require.NoError(t, a.Block(ctx(), "POST /tokens", time.Now().Add(time.Hour)))
		send(t, a, 7)
		require.Equal(t, 2, j.count())
		require.Equal(t, 8, usage(t, open(t, ratelimit.NewRegistry(), j.left()), revoke).Hour.Used)
	})
}

func TestACleanCloseSettlesWhatACrashHadLeftOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, j := ratelimit.NewRegistry(), &memory{}
		send(t, open(t, ratelimit.NewRegistry(), j), 1)
		require.NoError(t, open(t, r, j).Close(ctx()))
		time.Sleep(59 * time.Minute)
		a := open(t, r, j)
		require.Equal(t, 8, usage(t, a, revoke).Hour.Used)
		time.Sleep(time.Minute + keptHour - time.Hour + longestTransit) // what was on its way at the crash may have been counted so much later
		require.Zero(t, usage(t, a, revoke).Hour.Used)
	})
}

func TestAMinuteSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		a := open(t, ratelimit.NewRegistry(), j)
		a.SetLimits(revoke, ratelimit.Limits{PerMinute: 20})
		send(t, a, 8)
		require.Equal(t, 8, usage(t, open(t, ratelimit.NewRegistry(), j.left()), revoke).Minute.Used)
	})
}

func TestInterleavedJournalsMakeTheSameWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, journals := ratelimit.NewRegistry(), []*memory{{}, {}}
		limiters := []*ratelimit.Limiter{open(t, r, journals[0]), open(t, r, journals[1])}
		for i := range 30 {
			send(t, limiters[i%2], 1)
			time.Sleep(time.Second)
		}
		var want []time.Time
		for i := range 30 {
			want = append(want, limiters[0].NextPermit(revoke, i))
		}
		for _, a := range limiters {
			require.NoError(t, a.Close(ctx()))
		}
		for first := range 2 {
			r = ratelimit.NewRegistry()
			open(t, r, journals[first].left())
			a := open(t, r, journals[1-first].left())
			for i := range want {
				require.Equal(t, want[i], a.NextPermit(revoke, i))
			}
		}
	})
}

func TestFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, j := ratelimit.NewRegistry(), &memory{}
		a := open(t, r, j)
		require.NoError(t, a.Close(ctx()))
		require.Zero(t, j.count(), "nothing has changed")

		a = open(t, r, j)
		send(t, a, 120)
		require.Equal(t, 120/8, j.count())
		require.NoError(t, a.Close(ctx()))
		require.Equal(t, 120/8+1, j.count())
		require.Less(t, len(j.data), 1300, "an hour at one endpoint")

		j = &memory{}
		a = open(t, r, j)
		for range 100 {
			acquire(t, a, hour).Cancel()
		}
		require.Equal(t, 1, j.count(), "a slot that was given back is still reserved")
		acquire(t, a, hour).Done()
		time.Sleep(keptHour)
		require.NoError(t, a.Block(ctx(), "POST /tokens", time.Now().Add(time.Minute)))
		require.NotContains(t, string(j.data), "ages", "what is over is forgotten")
		time.Sleep(time.Minute)
		require.NoError(t, a.Close(ctx()))
		require.NotContains(t, string(j.data), revoke)

		for range 1000 {
			s, err := a.Acquire(ctx(), "POST /auth/challenge", hour)
			require.ErrorIs(t, err, ratelimit.ErrClosed)
			require.Nil(t, s)
		}
		j = &memory{}
		a = open(t, r, j)
		for range 1000 {
			s, err := a.Acquire(ctx(), "POST /auth/challenge", hour)
			require.NoError(t, err)
			s.Done()
		}
		require.Equal(t, 1000/8, j.count())
		time.Sleep(keptSecond)
		require.NoError(t, a.Close(ctx()))
		require.NotContains(t, string(j.data), "ages", "a second is soon over")
	})
}

func TestAccountsOfAKeyShareItsWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ja, jb := ratelimit.NewRegistry(), &memory{}, &memory{}
		a, b := open(t, r, ja), open(t, r, jb)
		send(t, a, 6)
		send(t, b, 4)
		_, err := b.Acquire(ctx(), revoke, now)
		require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))

		require.NoError(t, a.Close(ctx()))
		require.Equal(t, 10, usage(t, b, revoke).Hour.Used, "what has been sent counts when the account has gone")
		_, err = r.Open(ctx(), key, jb)
		require.ErrorIs(t, err, ratelimit.ErrJournalInUse)
		a = open(t, r, ja)
		require.Equal(t, 10, usage(t, b, revoke).Hour.Used, "nothing counts twice when it comes back")
		require.NoError(t, a.Close(ctx()))
		require.NoError(t, b.Close(ctx()))

		r = ratelimit.NewRegistry()
		open(t, r, ja)
		require.Equal(t, 10, usage(t, open(t, r, jb), revoke).Hour.Used, "a restart brings both back")
	})
}

func TestWindowsGoWhenNothingInThemMattersAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		a := open(t, r, &memory{})
		permit := acquire(t, a, now)
		require.NoError(t, a.Close(ctx()))
		b := open(t, r, &memory{})
		require.Equal(t, 1, usage(t, b, revoke).InFlight, "a request in flight outlives its account")
		require.NoError(t, b.Close(ctx()))
		permit.Done()
		require.Empty(t, open(t, r, &memory{}).Usage())
	})
}

func TestAQuickRestartDoesNotOverfillALimitOfSecondsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		a := open(t, ratelimit.NewRegistry(), j)
		a.SetLimits(revoke, ratelimit.Limits{PerSecond: 5})
		send(t, a, 5)

		b := open(t, ratelimit.NewRegistry(), j)
		_, err := b.Acquire(ctx(), revoke, now)
		require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))
		began := time.Now()
		permit, err := b.Acquire(ctx(), revoke, ratelimit.Wait{AtMost: time.Minute})
		require.NoError(t, err)
		require.Equal(t, longestTransit+keptSecond, time.Since(began))
		permit.Done()
	})
}

func TestWhatWasOnItsWayAtACrashMayArriveALittleLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		send(t, open(t, ratelimit.NewRegistry(), j), 1)
		next := open(t, ratelimit.NewRegistry(), j.left())
		time.Sleep(longestTransit + 500*time.Millisecond)
		require.Equal(t, 8, usage(t, next, revoke).Second.Used)
		time.Sleep(time.Second)
		require.Zero(t, usage(t, next, revoke).Second.Used)
	})
}
