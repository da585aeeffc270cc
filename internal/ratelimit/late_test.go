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

// maxTransit is what the package allows a request of a killed process to take until KSeF counts
// it.
const maxTransit = 30 * time.Second

// TestLateRequestsOfAKilledProcess has KSeF look at requests of a killed process in a second that
// its successor uses, too.
func TestLateRequestsOfAKilledProcess(t *testing.T) {
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

// Requests of logins have a limit in the second alone.
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

// TestLateRequestsLeaveRoom has callers come at once after a crash: the requests that may still be
// in progress leave room for some of them in each second, so that nobody is sent away for those.
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

// TestLateRequestsThatWereGivenUp has callers leave, and KSeF look at their requests in a second
// that others use.
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
