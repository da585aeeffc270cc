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

// ErrClosed is the answer of a limiter that has been closed.
var ErrClosed = errors.New("the mount is being unloaded, and sends nothing to KSeF any more; ask again")

// Limiter is one user's way to the windows of a key. Its methods may be called from any goroutine.
type Limiter struct {
	mu           *sync.Mutex // the registry's
	pool         *pool
	id           string
	journal      Journal
	reservations map[*endpoint]*reservation
	closed       bool

	saved              uint64    // the pool's version that the journal has
	writes             uint64    // writes begun
	writing            *write    // the one that is in progress
	emptySince         time.Time // zero until CloseIdle finds it empty, and after each request
	journalPausedUntil time.Time // other limiters do not wait for this one's journal before
}

// Wait says how long a request may wait for its permit.
type Wait struct {
	// AtMost bounds the time in the queue; 0 or less takes a permit only if one is free now. The
	// time that the journal takes to write is not part of it.
	AtMost time.Duration
	// Background requests go only when no other waits at the endpoint.
	Background bool
}

// Permit is the right to send one request. End it with [Permit.Done] or [Permit.Cancel].
type Permit struct {
	limiter      *Limiter
	endpoint     *endpoint
	reserved     bool       // counted by the journal
	alsoReserved []*Limiter // whose journals count it too
	ended        bool
}

// Acquire takes a permit for one request to an endpoint such as "DELETE /tokens/{referenceNumber}",
// and waits for it in order of arrival, for the time that wait allows or until ctx ends. It returns
// an [ExhaustedError] as soon as it is certain that the permit cannot come in time, [ErrClosed] if
// the limiter is or gets closed, or the error of the journal: a request that the next process would
// not know must not go.
func (l *Limiter) Acquire(ctx context.Context, endpoint string, wait Wait) (*Permit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.emptySince = time.Time{}
	e := l.pool.endpoint(endpoint)
	w := e.newWaiter(l, wait, time.Now())
	for {
		if err := l.await(ctx, e, w); err != nil {
			return nil, err
		}
		p := &Permit{limiter: l, endpoint: e}
		if err := l.reserve(ctx, p); err != nil {
			e.leave(w)
			l.pool.dropIfIdle()
			return nil, err
		}
		// KSeF may have told us to stop while the journal was being written.
		if !e.blocked.After(time.Now()) {
			return p, nil
		}
		p.cancel()
	}
}

// await returns when the waiter has been granted a permit.
func (l *Limiter) await(ctx context.Context, e *endpoint, w *waiter) error {
	if ctx.Err() != nil {
		return waitingEnded(ctx, e)
	}
	if l.closed {
		return ErrClosed
	}
	e.enqueue(w)
	e.dispatch(time.Now())
	if !w.finished() {
		w.done = make(chan struct{})
		l.mu.Unlock()
		select {
		case <-w.done:
		case <-ctx.Done():
		}
		l.mu.Lock()
	}
	if w.err != nil {
		return w.err
	}
	if ctx.Err() != nil {
		e.leave(w)
		l.pool.dropIfIdle()
		return waitingEnded(ctx, e)
	}
	return nil
}

func waitingEnded(ctx context.Context, e *endpoint) error {
	return fmt.Errorf("waiting for KSeF's limit of %s: %w", e.name, context.Cause(ctx))
}

// Done ends a permit whose reply has arrived or whose request has failed. From now on it counts for
// the length of each window. Further calls do nothing.
func (p *Permit) Done() {
	p.end(time.Time{})
}

// GiveUp is Done for a request that was sent then and that nobody waits for any more. KSeF may look
// at it only later, and so it counts from a moment to come.
func (p *Permit) GiveUp(sent time.Time) {
	p.end(sent.Add(maxTransit))
}

// end ends a permit whose request KSeF has counted at that moment at the latest, or now.
func (p *Permit) end(latest time.Time) {
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	now := time.Now()
	p.endpoint.record(sentAt{at: later(now, latest), limiter: l.id})
	l.reservation(p.endpoint).inFlight--
	p.release(now)
}

// Cancel gives back a permit whose request was certainly never sent. Further calls do nothing, as
// after [Permit.Done].
func (p *Permit) Cancel() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	if !p.ended {
		p.cancel()
	}
}

func (p *Permit) cancel() {
	p.ended = true
	r := p.limiter.reservation(p.endpoint)
	r.inFlight--
	if p.reserved && !p.limiter.closed {
		r.reserved++
	}
	for _, other := range p.alsoReserved {
		if !other.closed {
			other.reservation(p.endpoint).reserved++
		}
	}
	p.release(time.Now())
}

func (p *Permit) release(now time.Time) {
	p.endpoint.inFlight--
	if p.reserved {
		p.limiter.pool.version++
	}
	p.endpoint.dispatch(now)
	p.limiter.pool.dropIfIdle()
}

// Block lets nothing go at the endpoint before the given moment, which a Retry-After named, and
// refuses those who cannot wait that long. It never shortens an earlier block. An error says that
// the limiter's journal could not be written; the block holds in this process all the same.
func (l *Limiter) Block(ctx context.Context, endpoint string, until time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pool.endpoint(endpoint)
	now := time.Now()
	// Seen from now, the moment moves with the monotonic clock, whatever becomes of the wall clock.
	if until = now.Add(until.Sub(now)); until.After(now) && until.After(e.blocked) {
		e.blocked = until
		e.dispatch(now)
		l.pool.version++
		e.blockVersion = l.pool.version
	}
	hasBlock := func(l *Limiter) bool { return l.saved >= e.blockVersion }
	defer l.writeOthers(ctx, hasBlock)
	if l.closed {
		return ErrClosed
	}
	if err := l.persist(ctx, func() bool { return hasBlock(l) }); err != nil {
		return fmt.Errorf("recording that %s is blocked until %s: %w", endpoint, until.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// SetLimits sets the limits of an endpoint for all limiters of the key, as KSeF has told them. A
// negative limit is no limit. The journal learns of them with its next write.
func (l *Limiter) SetLimits(endpoint string, limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pool.endpoint(endpoint)
	limits = limits.withoutNegatives()
	now := time.Now()
	if e.limits == limits {
		if !e.limitsSet.IsZero() {
			e.limitsSet = now // the next write of a journal says so
		}
		return
	}
	if !e.limits.any() {
		l.pool.forgetReserved(e)
	}
	e.limits, e.limitsSet = limits, now
	l.pool.version++
	e.dispatch(now)
}

// NextPermit returns the moment at which a request would go that has so many others before it, if
// each of these and those in flight were answered at once. Those who wait in [Limiter.Acquire] are
// not added to ahead.
func (l *Limiter) NextPermit(endpoint string, ahead int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pool.endpoint(endpoint)
	beyond := max(0, ahead-exactAhead)
	return e.project(time.Now()).nextAfter(ahead - beyond).Add(time.Duration(beyond) * e.limits.pace())
}

// exactAhead is how many requests ahead are played through exactly. What lies beyond goes at the pace
// of the slowest window: to play it through would take longer than the answer is worth.
const exactAhead = 360

// Close refuses the waiters of this limiter and writes its exact state to the journal. Permits that
// are still in flight must be ended all the same. Further calls do nothing.
func (l *Limiter) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.dropReserved()
	for _, e := range l.pool.endpoints {
		e.refuseWaitersOf(l, ErrClosed)
	}
	last := l.pool.version
	err := l.persist(ctx, func() bool { return l.saved >= last })
	delete(l.pool.limiters, l.id)
	l.pool.unsaved = l.pool.unsaved || err != nil
	l.pool.dropIfIdle()
	if err != nil {
		return fmt.Errorf("storing the state of KSeF's request limits: %w", err)
	}
	return nil
}

// KeepWindows keeps the windows of the limiter's key in this process when the limiter is closed.
// It is for a limiter whose journal is about to be deleted: KSeF goes on to count what it has
// sent.
func (l *Limiter) KeepWindows() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool.unsaved = true
}
