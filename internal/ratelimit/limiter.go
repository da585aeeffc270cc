// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClosed is the answer of an limiter that has been closed.
var ErrClosed = errors.New("the mount is being unloaded, and sends nothing to KSeF any more; ask again")

// Limiter is one user's way to the windows of a key. Its methods may be called from any goroutine.
type Limiter struct {
	mu           *sync.Mutex // the registry's
	pool         *pool
	id           string
	journal      Journal
	reservations map[*endpoint]*reservation
	closed       bool

	saved      uint64    // the pool's version that the journal has
	writes     uint64    // writes begun
	writing    *write    // the one that is in progress
	emptySince time.Time // zero until CloseIdle finds it empty, and after each request
	restsUntil time.Time // other limiters do not wait for this one's journal before
}

// Wait says how long a request may wait for its permit.
type Wait struct {
	// AtMost bounds the time in the queue; 0 or less takes a permit only if one is free now. The
	// time that the journal takes to write is not part of it.
	AtMost time.Duration
	// Background requests go only when no other waits at the endpoint.
	Background bool
}

// Permit is the right to send one request. End it with [Slot.Done] or [Slot.Cancel].
type Permit struct {
	limiter  *Limiter
	endpoint *endpoint
	reserved bool       // counted by the journal
	sharers  []*Limiter // whose journals count it too
	ended    bool
}

// Acquire takes a permit for one request to an endpoint such as "DELETE /tokens/{referenceNumber}",
// and waits for it in order of arrival, for the time that wait allows or until ctx ends. It returns
// an [ExhaustedError] as soon as it is certain that the permit cannot come in time, [ErrClosed] if
// the limiter is or gets closed, or the error of the journal: a request that the next process would
// not know must not go.
func (a *Limiter) Acquire(ctx context.Context, endpoint string, wait Wait) (*Permit, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, ErrClosed
	}
	a.emptySince = time.Time{}
	e := a.pool.endpoint(endpoint)
	w := e.arrive(a, wait, time.Now())
	for {
		if err := a.await(ctx, e, w); err != nil {
			return nil, err
		}
		s := &Permit{limiter: a, endpoint: e}
		if err := a.reserve(ctx, s); err != nil {
			e.leave(w)
			a.pool.dropIfIdle()
			return nil, err
		}
		// KSeF may have told us to stop while the journal was being written.
		if !e.blocked.After(time.Now()) {
			return s, nil
		}
		s.cancel()
	}
}

// await returns when the waiter has been granted a permit.
func (a *Limiter) await(ctx context.Context, e *endpoint, w *waiter) error {
	if ctx.Err() != nil {
		return waitingEnded(ctx, e)
	}
	if a.closed {
		return ErrClosed
	}
	e.enqueue(w)
	e.settle(time.Now())
	if !w.over() {
		w.done = make(chan struct{})
		a.mu.Unlock()
		select {
		case <-w.done:
		case <-ctx.Done():
		}
		a.mu.Lock()
	}
	if w.err != nil {
		return w.err
	}
	if ctx.Err() != nil {
		e.leave(w)
		a.pool.dropIfIdle()
		return waitingEnded(ctx, e)
	}
	return nil
}

func waitingEnded(ctx context.Context, e *endpoint) error {
	return fmt.Errorf("waiting for KSeF's limit of %s: %w", e.name, context.Cause(ctx))
}

// Done ends a permit whose reply has arrived or whose request has failed. From now on it counts for
// the length of each window. Further calls do nothing.
func (s *Permit) Done() {
	s.end(time.Time{})
}

// GiveUp is Done for a request that was sent then and that nobody waits for any more. KSeF may look
// at it only later, and so it counts from a moment to come.
func (s *Permit) GiveUp(sent time.Time) {
	s.end(sent.Add(longestTransit))
}

// end ends a permit whose request KSeF has counted at that moment at the latest, or now.
func (s *Permit) end(latest time.Time) {
	a := s.limiter
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	now := time.Now()
	s.endpoint.record(sentAt{at: later(now, latest), limiter: a.id})
	a.reservation(s.endpoint).inFlight--
	s.release(now)
}

// Cancel gives back a permit whose request was certainly never sent. Further calls do nothing, as
// after [Slot.Done].
func (s *Permit) Cancel() {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	if !s.ended {
		s.cancel()
	}
}

func (s *Permit) cancel() {
	s.ended = true
	b := s.limiter.reservation(s.endpoint)
	b.inFlight--
	if s.reserved && !s.limiter.closed {
		b.reserved++
	}
	for _, other := range s.sharers {
		if !other.closed {
			other.reservation(s.endpoint).reserved++
		}
	}
	s.release(time.Now())
}

func (s *Permit) release(now time.Time) {
	s.endpoint.inFlight--
	if s.reserved {
		s.limiter.pool.version++
	}
	s.endpoint.settle(now)
	s.limiter.pool.dropIfIdle()
}

// Block lets nothing go at the endpoint before the given moment, which a Retry-After named, and
// refuses those who cannot wait that long. It never shortens an earlier block. An error says that
// the limiter's journal could not be written; the block holds in this process all the same.
func (a *Limiter) Block(ctx context.Context, endpoint string, until time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.pool.endpoint(endpoint)
	now := time.Now()
	// Seen from now, the moment moves with the monotonic clock, whatever becomes of the wall clock.
	if until = now.Add(until.Sub(now)); until.After(now) && until.After(e.blocked) {
		e.blocked = until
		e.settle(now)
		a.pool.version++
		e.blockVersion = a.pool.version
	}
	knows := func(a *Limiter) bool { return a.saved >= e.blockVersion }
	defer a.writeOthers(ctx, knows)
	if a.closed {
		return ErrClosed
	}
	if err := a.persist(ctx, func() bool { return knows(a) }); err != nil {
		return fmt.Errorf("recording that %s is blocked until %s: %w", endpoint, until.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// SetLimits sets the limits of an endpoint for all limiters of the key, as KSeF has told them. A
// negative limit is no limit. The journal learns of them with its next write.
func (a *Limiter) SetLimits(endpoint string, limits Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.pool.endpoint(endpoint)
	limits = limits.withoutNegatives()
	now := time.Now()
	if e.limits == limits {
		if !e.limitsSet.IsZero() {
			e.limitsSet = now // the next write of a journal says so
		}
		return
	}
	if !e.limits.any() {
		a.pool.forgetReserved(e)
	}
	e.limits, e.limitsSet = limits, now
	a.pool.version++
	e.settle(now)
}

// NextPermit returns the moment at which a request would go that has so many others before it, if
// each of these and those in flight were answered at once. Those who wait in [Account.Acquire] are
// not added to ahead.
func (a *Limiter) NextPermit(endpoint string, ahead int) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.pool.endpoint(endpoint)
	beyond := max(0, ahead-foreseen)
	return e.project(time.Now()).after(ahead - beyond).Add(time.Duration(beyond) * e.limits.pace())
}

// foreseen is how many requests ahead are played through exactly. What lies beyond goes at the pace
// of the slowest window: to play it through would take longer than the answer is worth.
const foreseen = 360

// Close refuses the waiters of this limiter and writes its exact state to the journal. Slots that
// are still in flight must be ended all the same. Further calls do nothing.
func (a *Limiter) Close(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	a.dropReserved()
	for _, e := range a.pool.endpoints {
		e.dismiss(a, ErrClosed)
	}
	last := a.pool.version
	err := a.persist(ctx, func() bool { return a.saved >= last })
	delete(a.pool.limiters, a.id)
	a.pool.unsaved = a.pool.unsaved || err != nil
	a.pool.dropIfIdle()
	if err != nil {
		return fmt.Errorf("storing the state of KSeF's request limits: %w", err)
	}
	return nil
}
