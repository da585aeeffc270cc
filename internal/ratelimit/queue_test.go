// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

// one opens a limiter for one request a second, and uses that.
func one(t *testing.T) *ratelimit.Limiter {
	t.Helper()
	l := open(t, ratelimit.NewRegistry(), &memory{})
	l.SetLimits(revoke, ratelimit.Limits{PerSecond: 1})
	send(t, l, 1)
	return l
}

func TestQueueIsInOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		limiters := []*ratelimit.Limiter{open(t, r, &memory{}), open(t, r, &memory{})}
		limiters[0].SetLimits(revoke, ratelimit.Limits{PerSecond: 1, PerHour: 100})
		begin := time.Now()
		var waiters []<-chan result
		for i := range 50 {
			waiters = append(waiters, waiting(ctx(), limiters[i%2], hour, synctest.Wait))
		}
		for i, w := range waiters {
			r := <-w
			require.NoError(t, r.err)
			require.Equal(t, begin.Add(time.Duration(i)*keptSecond), r.at, i)
			r.permit.Done()
		}
	})
}

func TestQueueRefusesAtOnceWhatCannotGoInTime(t *testing.T) {
	for name, c := range map[string]struct {
		waiters  int
		atMost   time.Duration
		position int // 0: it is sent
	}{
		"no time to wait":          {0, 0, 1},
		"a negative time":          {0, -time.Second, 1},
		"just too little":          {0, keptSecond - 1, 1},
		"just enough":              {0, keptSecond, 0},
		"too little for the queue": {3, 4*keptSecond - 1, 4},
		"enough for the queue":     {3, 4 * keptSecond, 0},
		"all the time there is":    {3, 1<<63 - 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := one(t)
				begin := time.Now()
				for range c.waiters {
					w := waiting(ctx(), l, hour, synctest.Wait)
					go func() {
						if r := <-w; r.err == nil {
							r.permit.Done()
						}
					}()
				}
				next := begin.Add(time.Duration(c.waiters+1) * keptSecond)
				permit, err := l.Acquire(ctx(), revoke, ratelimit.Wait{AtMost: c.atMost})
				if c.position == 0 {
					require.NoError(t, err)
					require.Equal(t, next, time.Now())
					permit.Done()
					return
				}
				require.Equal(t, &ratelimit.ExhaustedError{Endpoint: revoke, Next: next, Position: c.position}, refused(t, err))
				require.Equal(t, begin, time.Now())
				require.NoError(t, l.Close(ctx()))
			})
		})
	}
}

func TestExhaustedErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for position, waiting := range map[int]string{1: "", 2: " and 1 request waits for it", 340: " and 339 requests wait for it"} {
			err := &ratelimit.ExhaustedError{Endpoint: revoke, Next: time.Now().Add(41*time.Second + time.Millisecond), Position: position}
			require.EqualError(t, err, "KSeF's limit for DELETE /tokens/{referenceNumber} is used up"+waiting+
				", so that this request was refused; next slot at 2000-01-01T00:00:42Z, in 42 s")
		}
		err := &ratelimit.ExhaustedError{Endpoint: revoke, Next: time.Now(), Position: 1}
		require.EqualError(t, err, "KSeF's limit for DELETE /tokens/{referenceNumber} is used up, "+
			"so that this request was refused; next slot at 2000-01-01T00:00:00Z")
	})
}

func TestQueueRefusesWaiterAtDeadlineWithoutResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := one(t)
		time.Sleep(keptSecond)
		hanging := acquire(t, l, now)
		begin := time.Now()
		w := waiting(ctx(), l, ratelimit.Wait{AtMost: 5 * time.Second}, synctest.Wait)
		r := <-w
		require.Equal(t, 1, refused(t, r.err).Position)
		require.Equal(t, begin.Add(5*time.Second), r.at)
		hanging.Done()
		_, err := l.Acquire(ctx(), revoke, now)
		require.Equal(t, time.Now().Add(keptSecond), refused(t, err).Next)
	})
}

func TestQueueCancellationFreesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := one(t)
		begin := time.Now()
		c, cancel := context.WithCancelCause(ctx())
		first := waiting(c, l, hour, synctest.Wait)
		second := waiting(ctx(), l, hour, synctest.Wait)
		why := errors.New("the caller has gone")
		cancel(why)
		require.ErrorIs(t, (<-first).err, why)
		require.Equal(t, 1, usage(t, l, revoke).Waiting)
		r := <-second
		require.NoError(t, r.err)
		require.Equal(t, begin.Add(keptSecond), r.at)
		r.permit.Done()

		_, err := l.Acquire(c, revoke, hour)
		require.ErrorIs(t, err, why, "a context that has ended takes no place")
		require.Zero(t, usage(t, l, revoke).InFlight)
	})
}

func TestPermitAfterContextEndIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, ratelimit.NewRegistry(), &memory{})
		l.SetLimits(revoke, ratelimit.Limits{PerHour: 1})
		p := acquire(t, l, now)
		c, cancel := context.WithCancel(ctx())
		w := waiting(c, l, ratelimit.Wait{AtMost: 2 * time.Hour}, synctest.Wait)
		cancel()
		p.Cancel()
		require.ErrorIs(t, (<-w).err, context.Canceled)
		require.Zero(t, usage(t, l, revoke).InFlight)
	})
}

func TestPermitCancelledIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, ratelimit.NewRegistry(), &memory{})
		l.SetLimits(revoke, ratelimit.Limits{PerHour: 1})
		p := acquire(t, l, now)
		w := waiting(ctx(), l, ratelimit.Wait{AtMost: 2 * time.Hour}, synctest.Wait)
		p.Cancel()
		p.Cancel()
		p.Done()
		r := <-w
		require.NoError(t, r.err)
		r.permit.Done()
		r.permit.Done()
		r.permit.Cancel()
		require.Equal(t, ratelimit.WindowUsage{Used: 1, Limit: 1}, usage(t, l, revoke).Hour)
		require.NoError(t, l.Close(ctx()))
	})
}

func TestQueueBackgroundRequestsYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := one(t)
		begin := time.Now()
		patient := waiting(ctx(), l, ratelimit.Wait{AtMost: hour.AtMost, Background: true}, synctest.Wait)
		hasty := waiting(ctx(), l, ratelimit.Wait{AtMost: 2 * keptSecond, Background: true}, synctest.Wait)
		foreground := waiting(ctx(), l, hour, synctest.Wait)

		r := <-hasty
		require.Equal(t, &ratelimit.ExhaustedError{Endpoint: revoke, Next: begin.Add(3 * keptSecond), Position: 3}, refused(t, r.err))
		require.Equal(t, begin, r.at, "who is pushed beyond its time is refused at once")
		for i, w := range []<-chan result{foreground, patient} {
			r := <-w
			require.NoError(t, r.err)
			require.Equal(t, begin.Add(time.Duration(i+1)*keptSecond), r.at)
			r.permit.Done()
		}
	})
}

func TestCloseRefusesItsOwnWaitersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ratelimit.NewRegistry()
		l, b := open(t, r, &memory{}), open(t, r, &memory{})
		send(t, l, 10)
		begin := time.Now()
		mine, theirs := waiting(ctx(), l, hour, synctest.Wait), waiting(ctx(), b, hour, synctest.Wait)
		require.NoError(t, l.Close(ctx()))
		require.NoError(t, l.Close(ctx()))
		require.ErrorIs(t, (<-mine).err, ratelimit.ErrClosed)
		got := <-theirs
		require.NoError(t, got.err)
		require.Equal(t, begin.Add(keptSecond), got.at)
		_, err := l.Acquire(ctx(), revoke, hour)
		require.ErrorIs(t, err, ratelimit.ErrClosed)
		require.ErrorIs(t, l.Block(ctx(), revoke, time.Now().Add(time.Minute)), ratelimit.ErrClosed)
		require.NotZero(t, usage(t, b, revoke).BlockedUntil, "what KSeF said holds although the account has gone")
	})
}

// A request with a free permit, its share of the journal's writes included.
func BenchmarkAcquireDone(b *testing.B) {
	for name, limits := range map[string]ratelimit.Limits{
		"NoLimit":       {},
		"120InEachSpan": {PerSecond: 120, PerMinute: 120, PerHour: 120},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var l *ratelimit.Limiter
			for i := 0; b.Loop(); i++ {
				if i%120 == 0 {
					l = open(b, ratelimit.NewRegistry(), &memory{})
					l.SetLimits(revoke, limits)
				}
				p, err := l.Acquire(ctx(), revoke, now)
				if err != nil {
					b.Fatal(err)
				}
				p.Done()
			}
		})
	}
}
