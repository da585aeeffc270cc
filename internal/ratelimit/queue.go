// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// ExhaustedError refuses a request that cannot be sent in time.
type ExhaustedError struct {
	Endpoint string
	// Next is the earliest moment at which the request could be sent.
	Next time.Time
	// Position is the place that the request would have had in the queue; 1 is the next to go.
	Position int
}

// Error states the moment, and the seconds until then.
func (e *ExhaustedError) Error() string {
	waiting := ""
	switch ahead := e.Position - 1; {
	case ahead == 1:
		waiting = " and 1 request waits for it"
	case ahead > 1:
		waiting = fmt.Sprintf(" and %d requests wait for it", ahead)
	}
	text := fmt.Sprintf("KSeF's limit for %s is used up%s, so that this request was refused; next slot at %s",
		e.Endpoint, waiting, e.Next.Add(time.Second-1).UTC().Format(time.RFC3339))
	if left := time.Until(e.Next); left > 0 {
		text += fmt.Sprintf(", in %d s", int(math.Ceil(left.Seconds())))
	}
	return text
}

// endpoint is the windows of one endpoint and the queue for them, guarded by the registry's mutex.
type endpoint struct {
	windows
	name     string
	mu       *sync.Mutex
	queue    []*waiter // sorted by rank and arrival
	arrivals uint64
	// blockVersion is the pool's version with the latest block.
	blockVersion uint64
	timer        *time.Timer
}

// waiter is a request in the queue. It is finished once it has a permit or an error.
type waiter struct {
	limiter  *Limiter
	rank     int // 1 in the background, else 0
	arrival  uint64
	deadline time.Time
	granted  bool
	err      error
	done     chan struct{} // closed when finished; nil while no goroutine waits
}

func (w *waiter) finished() bool {
	return w.granted || w.err != nil
}

func (w *waiter) wake() {
	if w.done != nil {
		close(w.done)
	}
}

func (w *waiter) refuse(err error) {
	w.err = err
	w.wake()
}

func (e *endpoint) newWaiter(l *Limiter, wait Wait, now time.Time) *waiter {
	e.arrivals++
	w := &waiter{limiter: l, arrival: e.arrivals, deadline: now.Add(max(wait.AtMost, 0))}
	if wait.Background {
		w.rank = 1
	}
	return w
}

// enqueue inserts a waiter in order of arrival, background requests behind all others.
func (e *endpoint) enqueue(w *waiter) {
	at, _ := slices.BinarySearchFunc(e.queue, w, func(a, b *waiter) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.arrival, b.arrival))
	})
	e.queue = slices.Insert(e.queue, at, w)
}

// dispatch grants the permits that are free, refuses waiters that cannot be served in time, and
// sets the timer for the rest.
func (e *endpoint) dispatch(now time.Time) {
	e.prune(now)
	for len(e.queue) > 0 && e.isOpen(now) {
		w := e.queue[0]
		e.queue[0] = nil
		e.queue = e.queue[1:]
		e.grant(w)
	}
	e.refuseLate(now)
	e.setTimer(now)
}

// grant gives a waiter a permit that is free.
func (e *endpoint) grant(w *waiter) {
	e.inFlight++
	w.granted = true
	w.wake()
}

func (e *endpoint) refuseLate(now time.Time) {
	if len(e.queue) == 0 {
		return
	}
	p, ahead := e.project(now), 0
	e.queue = slices.DeleteFunc(e.queue, func(w *waiter) bool {
		if next := p.next(); next.After(w.deadline) {
			w.refuse(&ExhaustedError{Endpoint: e.name, Next: next, Position: ahead + 1})
			return true
		}
		p.send()
		ahead++
		return false
	})
}

// setTimer wakes the queue when the next window opens or the next deadline is reached.
func (e *endpoint) setTimer(now time.Time) {
	if len(e.queue) == 0 {
		if e.timer != nil {
			e.timer.Stop()
		}
		return
	}
	first := slices.MinFunc(e.queue, func(a, b *waiter) int { return a.deadline.Compare(b.deadline) })
	at := first.deadline
	if next, known := e.opensAt(); known && next.Before(at) {
		at = next
	}
	if e.timer == nil {
		e.timer = time.AfterFunc(at.Sub(now), e.onTimer)
		return
	}
	e.timer.Reset(at.Sub(now))
}

func (e *endpoint) onTimer() {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.refuseAllAfterPanic()
	e.dispatch(time.Now())
}

// leave returns a waiter's permit, or its place in the queue.
func (e *endpoint) leave(w *waiter) {
	if w.granted {
		e.inFlight--
	} else if i := slices.Index(e.queue, w); i >= 0 {
		e.queue = slices.Delete(e.queue, i, i+1)
	}
	e.dispatch(time.Now())
	w.limiter.pool.dropIfIdle()
}

// refuseWaitersOf refuses the waiters of one limiter.
func (e *endpoint) refuseWaitersOf(l *Limiter, err error) {
	e.queue = slices.DeleteFunc(e.queue, func(w *waiter) bool {
		if w.limiter != l {
			return false
		}
		w.refuse(err)
		return true
	})
	e.dispatch(time.Now())
}

var errPanicked = errors.New("the queue for KSeF's request limits has failed; ask again")

// refuseAllAfterPanic keeps a panic of the timer's goroutine from ending the process of all mounts.
func (e *endpoint) refuseAllAfterPanic() {
	if recover() == nil {
		return
	}
	for _, w := range e.queue {
		w.refuse(errPanicked)
	}
	e.queue = nil
}
