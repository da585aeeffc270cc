// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestRestartAfterCloseKeepsExactWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, j := ratelimit.NewRegistry(), &memory{}
		l := open(t, r, j)
		for range 40 {
			send(t, l, 1)
			time.Sleep(1300 * time.Millisecond)
		}
		want := l.Usage()
		require.NoError(t, l.Close(ctx()))
		again := []*ratelimit.Limiter{open(t, r, j), open(t, ratelimit.NewRegistry(), j.afterCrash())}
		for _, l := range again {
			got := l.Usage()
			require.True(t, want[0].Next.Equal(got[0].Next))
			got[0].Next = want[0].Next
			require.Equal(t, want, got)
		}
	})
}

func TestRestartAfterCrashCountsWhatMayHaveBeenSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		l := open(t, ratelimit.NewRegistry(), j)
		for sent := range 30 {
			next := open(t, ratelimit.NewRegistry(), j.afterCrash())
			used := 0
			if sent > 0 {
				used = usage(t, next, revoke).Hour.Used
			}
			require.GreaterOrEqual(t, used, sent)
			require.LessOrEqual(t, used, sent+8)
			send(t, l, 1)
		}
		time.Sleep(30 * time.Minute)
		next := open(t, ratelimit.NewRegistry(), j.afterCrash())
		require.Equal(t, 8, usage(t, next, revoke).Minute.Used, "8 that may have been sent just before the crash")
		require.NoError(t, next.Close(ctx()))
	})
}

func TestRestartAfterCrashCountsInFlightAndReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		l := open(t, ratelimit.NewRegistry(), j)
		acquire(t, l, now) // in flight until the crash
		require.NoError(t, l.Block(ctx(), "POST /tokens", time.Now().Add(time.Hour)))
		send(t, l, 7)
		require.Equal(t, 2, j.count())
		require.Equal(t, 8, usage(t, open(t, ratelimit.NewRegistry(), j.afterCrash()), revoke).Hour.Used)
	})
}

func TestRestartAfterCloseClearsWhatCrashLeftPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, j := ratelimit.NewRegistry(), &memory{}
		send(t, open(t, ratelimit.NewRegistry(), j), 1)
		require.NoError(t, open(t, r, j).Close(ctx()))
		time.Sleep(59 * time.Minute)
		l := open(t, r, j)
		require.Equal(t, 8, usage(t, l, revoke).Hour.Used)
		time.Sleep(time.Minute + keptHour - time.Hour + maxTransit) // a request in flight at the crash may have been counted so much later
		require.Zero(t, usage(t, l, revoke).Hour.Used)
	})
}

func TestRestartKeepsMinuteWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		l := open(t, ratelimit.NewRegistry(), j)
		l.SetLimits(revoke, ratelimit.Limits{PerMinute: 20})
		send(t, l, 8)
		require.Equal(t, 8, usage(t, open(t, ratelimit.NewRegistry(), j.afterCrash()), revoke).Minute.Used)
	})
}

func TestRestartWithInterleavedJournals(t *testing.T) {
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
		for _, l := range limiters {
			require.NoError(t, l.Close(ctx()))
		}
		for first := range 2 {
			r = ratelimit.NewRegistry()
			open(t, r, journals[first].afterCrash())
			l := open(t, r, journals[1-first].afterCrash())
			for i := range want {
				require.Equal(t, want[i], l.NextPermit(revoke, i))
			}
		}
	})
}

func TestJournalWritesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, j := ratelimit.NewRegistry(), &memory{}
		l := open(t, r, j)
		require.NoError(t, l.Close(ctx()))
		require.Zero(t, j.count(), "nothing has changed")

		l = open(t, r, j)
		send(t, l, 120)
		require.Equal(t, 120/8, j.count())
		require.NoError(t, l.Close(ctx()))
		require.Equal(t, 120/8+1, j.count())
		require.Less(t, len(j.data), 1300, "an hour at one endpoint")

		j = &memory{}
		l = open(t, r, j)
		for range 100 {
			acquire(t, l, hour).Cancel()
		}
		require.Equal(t, 1, j.count(), "a slot that was given back is still reserved")
		acquire(t, l, hour).Done()
		time.Sleep(keptHour)
		require.NoError(t, l.Block(ctx(), "POST /tokens", time.Now().Add(time.Minute)))
		require.NotContains(t, string(j.data), "ages", "what is over is forgotten")
		time.Sleep(time.Minute)
		require.NoError(t, l.Close(ctx()))
		require.NotContains(t, string(j.data), revoke)

		for range 1000 {
			p, err := l.Acquire(ctx(), "POST /auth/challenge", hour)
			require.ErrorIs(t, err, ratelimit.ErrClosed)
			require.Nil(t, p)
		}
		j = &memory{}
		l = open(t, r, j)
		for range 1000 {
			p, err := l.Acquire(ctx(), "POST /auth/challenge", hour)
			require.NoError(t, err)
			p.Done()
		}
		require.Equal(t, 1000/8, j.count())
		time.Sleep(keptSecond)
		require.NoError(t, l.Close(ctx()))
		require.NotContains(t, string(j.data), "ages", "a second is soon over")
	})
}

func TestWindowsAreSharedByLimitersOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ja, jb := ratelimit.NewRegistry(), &memory{}, &memory{}
		l, b := open(t, r, ja), open(t, r, jb)
		send(t, l, 6)
		send(t, b, 4)
		_, err := b.Acquire(ctx(), revoke, now)
		require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))

		require.NoError(t, l.Close(ctx()))
		require.Equal(t, 10, usage(t, b, revoke).Hour.Used, "what has been sent counts when the account has gone")
		_, err = r.Open(ctx(), key, jb)
		require.ErrorIs(t, err, ratelimit.ErrJournalInUse)
		l = open(t, r, ja)
		require.Equal(t, 10, usage(t, b, revoke).Hour.Used, "nothing counts twice when it comes back")
		require.NoError(t, l.Close(ctx()))
		require.NoError(t, b.Close(ctx()))

		r = ratelimit.NewRegistry()
		open(t, r, ja)
		require.Equal(t, 10, usage(t, open(t, r, jb), revoke).Hour.Used, "a restart brings both back")
	})
}

func TestWindowsAreDroppedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		l := open(t, r, &memory{})
		permit := acquire(t, l, now)
		require.NoError(t, l.Close(ctx()))
		b := open(t, r, &memory{})
		require.Equal(t, 1, usage(t, b, revoke).InFlight, "a request in flight remains after its limiter is closed")
		require.NoError(t, b.Close(ctx()))
		permit.Done()
		require.Empty(t, open(t, r, &memory{}).Usage())
	})
}

func TestRestartQuickDoesNotOverfillSecondWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		l := open(t, ratelimit.NewRegistry(), j)
		l.SetLimits(revoke, ratelimit.Limits{PerSecond: 5})
		send(t, l, 5)

		b := open(t, ratelimit.NewRegistry(), j)
		_, err := b.Acquire(ctx(), revoke, now)
		require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))
		began := time.Now()
		permit, err := b.Acquire(ctx(), revoke, ratelimit.Wait{AtMost: time.Minute})
		require.NoError(t, err)
		require.Equal(t, maxTransit+keptSecond, time.Since(began))
		permit.Done()
	})
}

func TestRestartAfterCrashAllowsLateArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		send(t, open(t, ratelimit.NewRegistry(), j), 1)
		next := open(t, ratelimit.NewRegistry(), j.afterCrash())
		time.Sleep(maxTransit + 500*time.Millisecond)
		require.Equal(t, 8, usage(t, next, revoke).Second.Used)
		time.Sleep(time.Second)
		require.Zero(t, usage(t, next, revoke).Second.Used)
	})
}

// maxTransit is how late KSeF may count a request of a crashed process.
const maxTransit = 30 * time.Second

// TestLateRequestsOfACrashedProcess lets KSeF count requests of a crashed process in a second that
// the next process uses, too.
func TestLateRequestsOfACrashedProcess(t *testing.T) {
	for _, late := range []time.Duration{100 * time.Millisecond, time.Second, 2900 * time.Millisecond, 12 * time.Second, maxTransit} {
		for _, inFlight := range []int{1, 3, 10} {
			t.Run(late.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					j := &memory{}
					crashed := open(t, ratelimit.NewRegistry(), j)
					var log []request
					for range inFlight {
						acquire(t, crashed, now)
						log = append(log, request{sent: time.Now(), done: time.Now().Add(late)})
					}

					next := open(t, ratelimit.NewRegistry(), j.afterCrash())
					for range 15 {
						permit := acquire(t, next, hour)
						log = append(log, request{time.Now(), time.Now()})
						permit.Done()
					}
					require.LessOrEqual(t, fullest(log, time.Second), 10)
				})
			})
		}
	}
}

// Logins are limited per second alone.
func TestLateRequestsOfALogin(t *testing.T) {
	const challenge = "POST /auth/challenge"
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		crashed := open(t, ratelimit.NewRegistry(), j)
		var log []request
		for range 20 {
			_, err := crashed.Acquire(ctx(), challenge, now)
			require.NoError(t, err)
			log = append(log, request{sent: time.Now(), done: time.Now().Add(maxTransit)})
		}
		next := open(t, ratelimit.NewRegistry(), j.afterCrash())
		for range 90 {
			permit, err := next.Acquire(ctx(), challenge, hour)
			require.NoError(t, err)
			log = append(log, request{time.Now(), time.Now()})
			permit.Done()
		}
		require.LessOrEqual(t, fullest(log, time.Second), ratelimit.AuthLimits().PerSecond)
	})
}

// TestLateRequestsLeaveRoom sends requests right after a crash. The requests that may still be in
// flight leave room for some of them in each second.
func TestLateRequestsLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		acquire(t, open(t, ratelimit.NewRegistry(), j), now)
		next := open(t, ratelimit.NewRegistry(), j.afterCrash()) // with eight of them
		var answers []<-chan result
		for range 10 {
			answers = append(answers, waiting(ctx(), next, ratelimit.Wait{AtMost: 10 * time.Second}, synctest.Wait))
		}
		for _, got := range answers {
			got := <-got
			require.NoError(t, got.err)
			time.Sleep(100 * time.Millisecond)
			got.permit.Done()
		}
	})
}

// TestLateRequestsThatWereGivenUp gives requests up, and lets KSeF count them in a second that
// others use.
func TestLateRequestsThatWereGivenUp(t *testing.T) {
	for _, late := range []time.Duration{time.Second, 2900 * time.Millisecond, maxTransit} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", late, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					j := &memory{}
					l := open(t, ratelimit.NewRegistry(), j)
					var log []request
					for range 10 {
						permit, sent := acquire(t, l, now), time.Now()
						log = append(log, request{sent: sent, done: sent.Add(late)})
						time.AfterFunc(100*time.Millisecond, func() { permit.GiveUp(sent) })
					}
					time.Sleep(time.Second)
					if restart {
						require.NoError(t, l.Close(ctx()))
						l = open(t, ratelimit.NewRegistry(), j.afterCrash())
					}
					for range 15 {
						permit := acquire(t, l, hour)
						log = append(log, request{time.Now(), time.Now()})
						permit.Done()
					}
					require.LessOrEqual(t, fullest(log, time.Second), 10)
				})
			})
		}
	}
}
