// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// step is one event in a process with two limiters of one key.
type step struct {
	Kind       string
	Limiter    int
	Pause      time.Duration // before the step
	AtMost     time.Duration
	Background bool
	Latency    time.Duration // between request and response
	Cancel     bool          // the request is never sent
	For        time.Duration // of a block
	Save       time.Duration // how long writes take from now on
	Early      bool          // whether a write is stored at its beginning
	Fails      bool          // whether the journal of the limiter fails from now on
}

func drawStep(t *rapid.T) step {
	return step{
		Kind: rapid.SampledFrom([]string{
			"send", "send", "send", "send", "burst", "burst", "burst", "burst", "burst", "burst", "burst", "burst",
			"block", "elsewhere", "crash", "close", "journal",
		}).Draw(t, "kind"),
		Limiter:    rapid.IntRange(0, 1).Draw(t, "account"),
		Pause:      rapid.OneOf(millis(0, 0), millis(0, 2000), millis(500, 120_000), millis(60_000, 7_200_000)).Draw(t, "pause"),
		AtMost:     rapid.OneOf(millis(0, 0), millis(1000, 120_000), millis(60_000, 7_200_000)).Draw(t, "at most"),
		Background: rapid.Bool().Draw(t, "background"),
		Latency:    rapid.OneOf(millis(0, 0), millis(1, 500), millis(1, 90_000)).Draw(t, "latency"),
		Cancel:     rapid.IntRange(0, 9).Draw(t, "cancel") == 0,
		For:        millis(0, 600_000).Draw(t, "block for"),
		Save:       rapid.OneOf(millis(0, 0), millis(0, 3000)).Draw(t, "save"),
		Early:      rapid.Bool().Draw(t, "early"),
		Fails:      rapid.IntRange(0, 3).Draw(t, "fails") == 3,
	}
}

// process is a sequence of processes. Each takes over the journals of the one before.
type process struct {
	t        *testing.T
	limits   ratelimit.Limits
	limiters []*ratelimit.Limiter
	journals []*memory
	stop     context.CancelFunc
	ctx      context.Context

	mu       sync.Mutex
	sent     []request
	inFlight map[int]bool // of the running process, by index into sent
	blocks   []request    // from the end of Block to the end of the block
}

func TestCrashNeverOverfillsAWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := ratelimit.Limits{
			PerSecond: rapid.SampledFrom([]int{0, 1, 3, 10}).Draw(rt, "per second"),
			PerMinute: rapid.SampledFrom([]int{0, 2, 9, 30}).Draw(rt, "per minute"),
			PerHour:   rapid.SampledFrom([]int{0, 5, 40, 120}).Draw(rt, "per hour"),
		}
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 20, 80).Draw(rt, "steps")
		var p *process
		synctest.Test(t, func(t *testing.T) {
			p = &process{t: t, limits: limits, journals: []*memory{{}, {}}}
			p.run(steps)
		})
		for _, s := range spans(limits) {
			require.LessOrEqual(rt, fullest(p.sent, s.length), s.limit, s.name)
		}
		for _, b := range p.blocks {
			for _, r := range p.sent {
				require.False(rt, r.sent.After(b.sent) && r.sent.Before(b.done), "sent at %s, blocked %s to %s", r.sent, b.sent, b.done)
			}
		}
	})
}

func (p *process) run(steps []step) {
	p.start()
	for _, s := range steps {
		time.Sleep(s.Pause)
		p.do(s)
	}
	time.Sleep(5 * time.Hour)
	for _, l := range p.limiters {
		for _, u := range l.Usage() {
			require.Zero(p.t, u.InFlight, u.Endpoint)
			require.Zero(p.t, u.Waiting, u.Endpoint)
			require.Zero(p.t, u.Hour.Used, u.Endpoint)
		}
	}
	p.stop()
}

func (p *process) start() {
	r := ratelimit.NewRegistry()
	p.ctx, p.stop = context.WithCancel(ctx())
	p.limiters, p.inFlight = nil, map[int]bool{}
	for _, j := range p.journals {
		p.limiters = append(p.limiters, open(p.t, r, j))
	}
	p.limiters[0].SetLimits(revoke, p.limits)
}

func (p *process) do(s step) {
	switch s.Kind {
	case "send":
		go p.send(p.ctx, p.limiters[s.Limiter], s)
	case "burst":
		for range 12 {
			go p.send(p.ctx, p.limiters[s.Limiter], s)
		}
	case "block":
		if until := time.Now().Add(s.For); p.limiters[s.Limiter].Block(p.ctx, revoke, until) == nil {
			p.mu.Lock()
			p.blocks = append(p.blocks, request{time.Now(), until})
			p.mu.Unlock()
		}
	case "elsewhere": // writes the journal while requests are reserved
		if err := p.limiters[s.Limiter].Block(p.ctx, "POST /tokens", time.Now().Add(s.For)); err != nil {
			require.ErrorIs(p.t, err, p.journals[s.Limiter].err)
		}
	case "crash":
		p.crash()
	case "close":
		for i, l := range p.limiters {
			if err := l.Close(p.ctx); err != nil {
				require.ErrorIs(p.t, err, p.journals[i].err)
			}
		}
		p.crash()
	case "journal":
		p.journals[s.Limiter].set(s.Save, s.Early, s.Fails)
	}
}

// crash halts the process and starts another on its journals.
func (p *process) crash() {
	p.halt()
	p.start()
}

// halt ends the process as a crash does. KSeF may count its requests in flight long after that.
func (p *process) halt() {
	p.mu.Lock()
	for i := range p.inFlight {
		p.sent[i].done = time.Now().Add(maxTransit)
	}
	p.inFlight = map[int]bool{}
	for i, j := range p.journals {
		p.journals[i] = j.afterCrash()
	}
	p.stop()
	p.mu.Unlock()
	synctest.Wait()
}

func (p *process) send(c context.Context, l *ratelimit.Limiter, s step) {
	permit, err := l.Acquire(c, revoke, ratelimit.Wait{AtMost: s.AtMost, Background: s.Background})
	if err != nil {
		return
	}
	if s.Cancel {
		permit.Cancel()
		return
	}
	i, alive := p.begin(c)
	if !alive {
		return
	}
	time.Sleep(s.Latency)
	if p.end(c, i) {
		permit.Done()
	}
}

func (p *process) begin(c context.Context) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Err() != nil {
		return 0, false
	}
	i := len(p.sent)
	p.sent = append(p.sent, request{sent: time.Now()})
	p.inFlight[i] = true
	return i, true
}

func (p *process) end(c context.Context, i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Err() != nil {
		return false
	}
	p.sent[i].done = time.Now()
	delete(p.inFlight, i)
	return true
}
