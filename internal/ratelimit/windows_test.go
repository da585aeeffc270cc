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
	"pgregory.net/rapid"
)

func drawLimits(t *rapid.T) ratelimit.Limits {
	return ratelimit.Limits{
		PerSecond: rapid.IntRange(0, 4).Draw(t, "per second"),
		PerMinute: rapid.IntRange(0, 8).Draw(t, "per minute"),
		PerHour:   rapid.IntRange(0, 15).Draw(t, "per hour"),
	}
}

func millis(low, high int) *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.IntRange(low, high), func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond })
}

// A queue of requests, each with its own latency, is sent exactly when the limits first allow it.
func TestWindowsAllowEachRequestAtEarliestMoment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := drawLimits(rt)
		gaps := rapid.SliceOfN(rapid.OneOf(millis(0, 0), millis(0, 1500), millis(0, 90_000)), 1, 40).Draw(rt, "gaps")
		latencies := rapid.SliceOfN(rapid.OneOf(millis(0, 0), millis(0, 3000)), len(gaps), len(gaps)).Draw(rt, "latencies")
		var want, got []request
		synctest.Test(t, func(t *testing.T) {
			want, got = runQueue(t, limits, gaps, latencies)
		})
		require.Equal(rt, want, got)
	})
}

func runQueue(t *testing.T, limits ratelimit.Limits, gaps, latencies []time.Duration) (want, got []request) {
	l := open(t, ratelimit.NewRegistry(), &memory{})
	l.SetLimits(revoke, limits)
	got = make([]request, len(gaps))
	arrival := time.Now()
	from := arrival
	for i := range gaps {
		time.Sleep(gaps[i])
		arrival = arrival.Add(gaps[i])
		if arrival.After(from) {
			from = arrival
		}
		from = earliest(limits, want, from)
		want = append(want, request{from, from.Add(latencies[i])})
		go func() {
			p, err := l.Acquire(ctx(), revoke, ratelimit.Wait{AtMost: 1000 * time.Hour})
			if err != nil {
				return
			}
			sent := time.Now()
			time.Sleep(latencies[i])
			p.Done()
			got[i] = request{sent, time.Now()}
		}()
		synctest.Wait()
	}
	time.Sleep(100 * time.Hour)
	return want, got
}

func TestNextPermitPredictsEachOfMany(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := drawLimits(rt)
		before := rapid.SliceOfN(millis(0, 20_000), 0, 20).Draw(rt, "before")
		var reported, went []time.Time
		synctest.Test(t, func(t *testing.T) {
			l := open(t, ratelimit.NewRegistry(), &memory{})
			l.SetLimits(revoke, limits)
			for _, gap := range before {
				acquire(t, l, ratelimit.Wait{AtMost: 100 * time.Hour}).Done()
				time.Sleep(gap)
			}
			for i := range 40 {
				reported = append(reported, l.NextPermit(revoke, i))
			}
			for range reported {
				acquire(t, l, ratelimit.Wait{AtMost: 100 * time.Hour}).Done()
				went = append(went, time.Now())
			}
		})
		require.Equal(rt, reported, went)
	})
}

func TestWindowsPassAThousandAtOnceAtTheEarliest(t *testing.T) {
	for _, latency := range []time.Duration{0, 80 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, ratelimit.NewRegistry(), &memory{})
				begin := time.Now()
				all := make(chan request, 1000)
				for range 1000 {
					go func() {
						p, err := l.Acquire(ctx(), revoke, ratelimit.Wait{AtMost: 10 * time.Hour})
						if err != nil {
							return
						}
						r := request{sent: time.Now()}
						time.Sleep(latency)
						p.Done()
						r.done = time.Now()
						all <- r
					}()
				}
				var log []request
				for range 1000 {
					log = append(log, <-all)
				}
				took, best := log[999].sent.Sub(begin), optimum(1000)
				if latency == 0 {
					require.Equal(t, best, took)
				}
				require.GreaterOrEqual(t, took, best)
				require.Less(t, took, best+best/100)
				for _, s := range spans(ratelimit.StandardLimits()) {
					require.Equal(t, s.limit, fullest(log, s.length), "the windows are used in full: "+s.name)
				}
				require.NoError(t, l.Close(ctx()))
			})
		})
	}
}

// optimum is when the last of n requests is sent under 10/s, 30/min, 120/h, without latency.
func optimum(n int) time.Duration {
	at := make([]time.Duration, n)
	for i := range at {
		for _, s := range spans(ratelimit.StandardLimits()) {
			if i >= s.limit {
				at[i] = max(at[i], at[i-s.limit]+s.kept)
			}
		}
	}
	return at[n-1]
}

func TestWindowsAreSeparateByKeyAndEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		l := open(t, r, &memory{})
		send(t, l, 10)
		_, err := l.Acquire(ctx(), revoke, now)
		require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))
		_, err = l.Acquire(ctx(), "POST /tokens", now)
		require.NoError(t, err)
		for _, other := range []ratelimit.Key{{API: key.API, Context: "Nip:1111111111"}, {API: "https://other.example", Context: key.Context}} {
			b, err := r.Open(ctx(), other, &memory{})
			require.NoError(t, err)
			_, err = b.Acquire(ctx(), revoke, now)
			require.NoError(t, err, fmt.Sprint(other))
		}
	})
}

func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, ratelimit.NewRegistry(), &memory{})
		begin := time.Now()
		send(t, l, 15) // 10 at once, 5 a second later
		permit := acquire(t, l, now)
		require.NoError(t, l.Block(ctx(), "POST /tokens", begin.Add(time.Minute)))
		first := <-waiting(ctx(), l, hour, synctest.Wait)
		require.NoError(t, first.err)
		l.SetLimits(revoke, ratelimit.Limits{PerSecond: 7, PerMinute: 30, PerHour: 120})
		var waiters []<-chan result
		for range 7 {
			waiters = append(waiters, waiting(ctx(), l, hour, synctest.Wait))
		}

		require.Equal(t, []ratelimit.Usage{
			{
				Endpoint: revoke,
				Second:   ratelimit.WindowUsage{Used: 7, Limit: 7},
				Minute:   ratelimit.WindowUsage{Used: 17, Limit: 30},
				Hour:     ratelimit.WindowUsage{Used: 17, Limit: 120},
				InFlight: 2,
				Waiting:  7,
				Next:     begin.Add(3 * keptSecond),
			},
			{
				Endpoint:     "POST /tokens",
				Second:       ratelimit.WindowUsage{Limit: 10},
				Minute:       ratelimit.WindowUsage{Limit: 30},
				Hour:         ratelimit.WindowUsage{Limit: 120},
				BlockedUntil: begin.Add(time.Minute),
				Next:         begin.Add(time.Minute),
			},
		}, l.Usage())
		permit.Done()
		first.permit.Done()
		for _, w := range waiters {
			r := <-w
			require.NoError(t, r.err)
			r.permit.Done()
		}
	})
}

// TestMarginCoversAFastClock sends as fast as the windows allow by a clock that is fast against
// KSeF's. 500 ppm is as much as NTP slews.
func TestMarginCoversAFastClock(t *testing.T) {
	for _, partsPerMillion := range []time.Duration{0, 500, 1000} {
		t.Run(fmt.Sprintf("%d ppm", partsPerMillion), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, ratelimit.NewRegistry(), &memory{})
				begin := time.Now()
				var seen []request
				for range 300 {
					permit := acquire(t, l, ratelimit.Wait{AtMost: 2 * time.Hour})
					passed := time.Since(begin)
					at := begin.Add(passed - passed*partsPerMillion/1_000_000)
					seen = append(seen, request{at, at})
					permit.Done()
				}
				for _, s := range spans(ratelimit.StandardLimits()) {
					require.Equal(t, s.limit, fullest(seen, s.length), s.name)
				}
			})
		})
	}
}

// TestMarginHasAFixedPart measures by how much a window reopens after KSeF's own.
func TestMarginHasAFixedPart(t *testing.T) {
	for kept, limits := range map[time.Duration]ratelimit.Limits{keptSecond: {PerSecond: 1}, keptMinute: {PerMinute: 1}, keptHour: {PerHour: 1}} {
		t.Run(kept.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, ratelimit.NewRegistry(), &memory{})
				l.SetLimits(revoke, limits)
				send(t, l, 1)
				require.Equal(t, kept, time.Until(l.NextPermit(revoke, 0)))
			})
		})
	}
}
