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

// ErrClosed is returned by a limiter that has been closed.
var ErrClosed = errors.New("the mount is being unloaded, and sends nothing to KSeF any more; ask again")

// Limiter takes permits from the windows of a key, on behalf of one mount. Its methods are safe for
// concurrent use.
type Limiter struct {
	mu           *sync.Mutex // the registry's
	pool         *pool
	id           string
	journal      Journal
	reservations map[*endpoint]*reservation
	closed       bool

	saved              uint64    // the pool's version that the journal has
	writes             uint64    // number of writes begun
	writing            *write    // the write in progress
	emptySince         time.Time // zero until CloseIdle finds no request to remember; reset by each request
	journalPausedUntil time.Time // until then other limiters do not wait for this journal
}

// Wait bounds how long a request waits for its permit.
type Wait struct {
	// AtMost bounds the time in the queue, without the time that the journal takes to write. With 0
	// or less, a permit must be free now.
	AtMost time.Duration
	// Background requests go only while no other request waits at the endpoint.
	Background bool
}

// Permit is the right to send one request. End it with [Permit.Done] or [Permit.Cancel].
type Permit struct {
	limiter      *Limiter
	endpoint     *endpoint
	reserved     bool       // by the limiter's own journal
	alsoReserved []*Limiter // other limiters whose journals count it
	ended        bool
}

// Acquire waits for the permit of one request to an endpoint such as "DELETE
// /tokens/{referenceNumber}", in order of arrival. It returns an [ExhaustedError] as soon as it is
// certain that the permit cannot come in time, [ErrClosed] if the limiter is closed, or the
// journal's error: a request that the next process would not know of must not be sent.
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
			return nil, err
		}
		// A Retry-After may have arrived during the write of the journal.
		if !e.blocked.After(time.Now()) {
			return p, nil
		}
		p.cancel()
	}
}

// await returns once the waiter has a permit.
func (l *Limiter) await(ctx context.Context, e *endpoint, w *waiter) error {
	if ctx.Err() != nil {
		return waitingEnded(ctx, e)
	}
	if l.closed {
		return ErrClosed
	}
	now := time.Now()
	w.granted, w.done = false, nil
	if len(e.queue) == 0 && e.isOpen(now) {
		e.grant(w)
		return nil
	}
	e.enqueue(w)
	e.dispatch(now)
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
		return waitingEnded(ctx, e)
	}
	return nil
}

func waitingEnded(ctx context.Context, e *endpoint) error {
	return fmt.Errorf("waiting for KSeF's limit of %s: %w", e.name, context.Cause(ctx))
}

// Done ends a permit whose response has arrived or whose request has failed. It counts from now for
// the length of each window. Further calls do nothing.
func (p *Permit) Done() {
	p.end(time.Time{})
}

// GiveUp is Done for a request that was sent at that time and whose response is no longer awaited.
// KSeF may count it later, so it counts from the latest moment possible.
func (p *Permit) GiveUp(sent time.Time) {
	p.end(sent.Add(maxTransit))
}

// end ends a permit whose request KSeF has counted by the given moment, or by now.
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

// Cancel returns a permit whose request was certainly never sent. Further calls do nothing, as
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

// Block stops all requests to the endpoint until the moment that a Retry-After has named, and
// refuses waiters that cannot wait so long. It never shortens an earlier block. An error means that
// the limiter's journal could not be written; this process keeps the block nevertheless.
func (l *Limiter) Block(ctx context.Context, endpoint string, until time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pool.endpoint(endpoint)
	now := time.Now()
	// Added to now, the moment follows the monotonic clock, even if the wall clock is set.
	if until = now.Add(until.Sub(now)); until.After(now) && until.After(e.blocked) {
		e.blocked = until
		e.dispatch(now)
		l.pool.version++
		e.blockVersion = l.pool.version
	}
	if err := l.saveVersion(ctx, e.blockVersion); err != nil {
		return fmt.Errorf("recording that %s is blocked until %s: %w", endpoint, until.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// saveVersion writes the journals of all limiters of the key until they have the version. The error
// is of the limiter's own.
func (l *Limiter) saveVersion(ctx context.Context, version uint64) error {
	has := func(l *Limiter) bool { return l.saved >= version }
	defer l.writeOthers(ctx, has)
	if l.closed {
		return ErrClosed
	}
	return l.persist(ctx, func() bool { return has(l) })
}

// SetLimits sets the limits of an endpoint, as reported by KSeF, for all limiters of the key. A
// negative limit is no limit. The next write of a journal includes them; [Limiter.Save] writes it.
func (l *Limiter) SetLimits(endpoint string, limits Limits) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.pool.endpoint(endpoint)
	limits = limits.withoutNegatives()
	now := time.Now()
	if e.limits == limits {
		if !e.limitsSet.IsZero() {
			e.limitsSet = now // written with the next write of a journal
		}
		return false
	}
	if !e.limits.any() {
		l.pool.forgetReserved(e)
	}
	e.limits, e.limitsSet = limits, now
	l.pool.version++
	e.dispatch(now)
	return true
}

// Save writes what has changed to the journals of all limiters of the key, so that the next process
// knows of it after a crash, too. The error is of the limiter's own.
func (l *Limiter) Save(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saveVersion(ctx, l.pool.version)
}

// NextPermit returns the moment at which a request with so many others ahead of it would be sent,
// if those and the requests in flight were answered at once. Waiters in [Limiter.Acquire] are not
// added to ahead.
func (l *Limiter) NextPermit(endpoint string, ahead int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, now := l.pool.endpoint(endpoint), time.Now()
	if ahead == 0 && e.isOpen(now) {
		return now // without a simulation: each request for a token asks
	}
	beyond := max(0, ahead-exactAhead)
	return e.project(now).nextAfter(ahead - beyond).Add(time.Duration(beyond) * e.limits.pace())
}

// exactAhead is how many requests ahead are simulated exactly. Beyond it the pace of the slowest
// window is precise enough, and costs no time.
const exactAhead = 360

// Close refuses the waiters of this limiter and writes its exact state to the journal. Permits in
// flight must be ended nevertheless. Further calls do nothing.
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

// KeepWindows keeps the windows of the key in this process after Close. It is for a limiter whose
// journal is about to be deleted: KSeF still counts what the limiter has sent.
func (l *Limiter) KeepWindows() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool.unsaved = true
}
