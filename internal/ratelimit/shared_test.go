// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// After a crash only one of two mounts is loaded: the one that has sent nothing.
func TestSharedWindows(t *testing.T) {
	t.Run("each journal counts what the others have sent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, ja, jb := ratelimit.NewRegistry(), &memory{}, &memory{}
			open(t, r, ja)
			b := open(t, r, jb)
			send(t, b, 30)

			r = ratelimit.NewRegistry()
			l := open(t, r, ja.afterCrash())
			_, err := l.Acquire(ctx(), revoke, now)
			require.NotZero(t, refused(t, err).Next)
			require.GreaterOrEqual(t, usage(t, l, revoke).Hour.Used, 30)
			open(t, r, jb.afterCrash())
			require.LessOrEqual(t, usage(t, l, revoke).Hour.Used, 30+2*8, "nothing counts twice when the other comes, too")
		})
	})

	t.Run("a later one gets what was sent before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, ja, jb := ratelimit.NewRegistry(), &memory{}, &memory{}
			b := open(t, r, jb)
			send(t, b, 28)
			acquire(t, b, hour)
			open(t, r, ja)
			require.GreaterOrEqual(t, usage(t, open(t, ratelimit.NewRegistry(), ja.afterCrash()), revoke).Hour.Used, 29)
		})
	})

	t.Run("a clean close leaves each with the exact windows", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, journals := ratelimit.NewRegistry(), []*memory{{}, {}}
			l, b := open(t, r, journals[0]), open(t, r, journals[1])
			send(t, l, 3)
			send(t, b, 4)
			require.NoError(t, l.Close(ctx()))
			require.NoError(t, b.Close(ctx()))
			for _, j := range journals {
				require.Equal(t, 7, usage(t, open(t, ratelimit.NewRegistry(), j.afterCrash()), revoke).Hour.Used)
			}
		})
	})

	t.Run("a block reaches each journal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, ja := ratelimit.NewRegistry(), &memory{}
			open(t, r, ja)
			until := time.Now().Add(45 * time.Minute)
			require.NoError(t, open(t, r, &memory{}).Block(ctx(), revoke, until))
			require.True(t, until.Equal(open(t, ratelimit.NewRegistry(), ja.afterCrash()).NextPermit(revoke, 0)))
		})
	})

	t.Run("a journal that fails stops no other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, ja := ratelimit.NewRegistry(), &memory{}
			open(t, r, ja)
			b := open(t, r, &memory{})
			ja.fail(errStorage)
			send(t, b, 30)
			require.LessOrEqual(t, ja.count(), 1, "it is left alone for a while")
			ja.fail(nil)
			time.Sleep(time.Minute)
			send(t, b, 1)
			require.Equal(t, 31+7, usage(t, open(t, ratelimit.NewRegistry(), ja.afterCrash()), revoke).Hour.Used, "it catches up")
		})
	})

	t.Run("a journal that hangs stops no other for long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := ratelimit.NewRegistry()
			open(t, r, &memory{delay: time.Hour})
			b := open(t, r, &memory{})
			begin := time.Now()
			send(t, b, 10)
			require.Equal(t, time.Second, time.Since(begin))
		})
	})

	t.Run("a cancelled permit is returned to each", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, ja := ratelimit.NewRegistry(), &memory{}
			open(t, r, ja)
			b := open(t, r, &memory{})
			for range 100 {
				acquire(t, b, now).Cancel()
			}
			require.Equal(t, 1, ja.count())
		})
	})

	t.Run("one write serves eight requests", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, ja, jb := ratelimit.NewRegistry(), &memory{}, &memory{}
			open(t, r, ja)
			send(t, open(t, r, jb), 24)
			require.Equal(t, []int{3, 3}, []int{ja.count(), jb.count()})
		})
	})
}

// TestCrashWithSharedWindows has two mounts send at random. After each crash only one of them comes
// back at first.
func TestCrashWithSharedWindows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := ratelimit.Limits{PerSecond: 10, PerMinute: rapid.SampledFrom([]int{9, 30}).Draw(rt, "per minute"), PerHour: 120}
		rounds := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(drawStep), 1, 12), 2, 6).Draw(rt, "rounds")
		var p *process
		synctest.Test(t, func(t *testing.T) {
			p = &process{t: t, limits: limits, journals: []*memory{{}, {}}}
			p.start()
			for _, steps := range rounds {
				p.round(steps)
			}
			time.Sleep(5 * time.Hour)
			p.stop()
		})
		for _, s := range spans(limits) {
			require.LessOrEqual(rt, fullest(p.sent, s.length), s.limit, s.name)
		}
	})
}

// round sends from both mounts, crashes, and sends from the mount of the last step alone.
func (p *process) round(steps []step) {
	for _, s := range steps {
		time.Sleep(s.Pause)
		p.sendForAll(s)
	}
	last := steps[len(steps)-1]
	synctest.Wait()
	p.halt()

	r := ratelimit.NewRegistry()
	p.ctx, p.stop = context.WithCancel(ctx())
	p.inFlight = map[int]bool{}
	p.limiters[last.Limiter] = open(p.t, r, p.journals[last.Limiter])
	p.sendForAll(last)
	synctest.Wait()
	p.limiters[1-last.Limiter] = open(p.t, r, p.journals[1-last.Limiter])
}

func (p *process) sendForAll(s step) {
	for range 12 {
		go p.send(p.ctx, p.limiters[s.Limiter], s)
	}
	synctest.Wait()
}
