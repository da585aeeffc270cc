// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package background holds what work without a caller is made of: a loop for regular work, a
// back-off, a sleep that ends with its context, a context that outlives its caller, and the
// containment of panics.
package background

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// shortestPause lies between two runs of a Loop that is not woken.
const shortestPause = time.Second

// LoopOptions are what a Loop works with.
type LoopOptions struct {
	// Name says what the loop does, for the log.
	Name   string
	Logger hclog.Logger
	// Interval is the longest pause between two runs.
	Interval time.Duration
	// Timeout bounds one run; 0 does not.
	Timeout time.Duration
	// RunOnce does what is due, and returns when something is due next; zero leaves that to the
	// Interval. A panic in it is logged, and RunOnce called again after a pause.
	RunOnce func(ctx context.Context) (next time.Time)
}

// Loop repeats a piece of work in a goroutine of its own: when it is due, after the interval, and
// when woken. It is safe for concurrent use.
type Loop struct {
	options LoopOptions
	wake    chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	started bool
	next    time.Time
}

// NewLoop returns a loop that waits for Start.
func NewLoop(options LoopOptions) *Loop {
	l := &Loop{options: options, wake: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Start runs the work for the first time. A second Start, and one after Stop, does nothing.
func (l *Loop) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.ctx.Err() != nil {
		return
	}
	l.started = true
	l.running.Go(l.run)
}

// Stop ends the context of the run in progress and waits for its return.
func (l *Loop) Stop() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.running.Wait()
}

// Running says that Start was called, and Stop was not.
func (l *Loop) Running() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started && l.ctx.Err() == nil
}

// Earlier returns the earlier of two moments at which something is due, of which zero is none.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// Wake makes the work due now. During a run it causes another one.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// WakeIfLate wakes the loop where the wall clock is past the next run: timers stand still while a
// machine sleeps.
func (l *Loop) WakeIfLate() {
	l.mu.Lock()
	late := time.Now().Round(0).After(l.next)
	l.mu.Unlock()
	if late {
		l.Wake()
	}
}

func (l *Loop) run() {
	panics := 0
	for {
		next, err := l.runOnce()
		latest := time.Now().Add(l.options.Interval)
		if err != nil {
			latest = time.Now().Add(Backoff{Shortest: panicPause, Longest: l.options.Interval}.Exact(panics))
			panics++
		} else {
			panics = 0
		}
		if next.IsZero() || next.After(latest) {
			next = latest
		}
		l.mu.Lock()
		l.next = next.Round(0)
		l.mu.Unlock()
		if !SleepOrWake(l.ctx, max(time.Until(next), shortestPause), l.wake) {
			return
		}
	}
}

func (l *Loop) runOnce() (next time.Time, err error) {
	defer Recover(l.options.Logger, l.options.Name, &err)
	ctx := l.ctx
	if l.options.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.options.Timeout)
		defer cancel()
	}
	return l.options.RunOnce(ctx), nil
}
