// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// reserveAhead is how many further requests at an endpoint one write to the journal covers. After a
// crash, those that did not go count for an hour all the same.
const reserveAhead = 8

// reservation is what an limiter has to answer for at one endpoint, besides the requests that have
// ended.
type reservation struct {
	inFlight int
	reserved int // requests of any limiter that may go without another write of this one's journal
	short    int // waiters that need a write
}

func (a *Limiter) reservation(e *endpoint) *reservation {
	b := a.reservations[e]
	if b == nil {
		b = &reservation{}
		a.reservations[e] = b
	}
	return b
}

// reserve sees to it that the journals count the request of a permit before it goes.
func (a *Limiter) reserve(ctx context.Context, s *Permit) error {
	if a.closed {
		return ErrClosed
	}
	b := a.reservation(s.endpoint)
	if s.endpoint.limits.any() {
		if err := a.makeRoom(ctx, s.endpoint); err != nil {
			return err
		}
		a.take(s)
	}
	b.inFlight++
	return nil
}

// makeRoom returns when the limiter's journal counts a further request, and those of the others do
// as far as they can.
func (a *Limiter) makeRoom(ctx context.Context, e *endpoint) error {
	hasRoom := func(a *Limiter) bool { return a.reservation(e).reserved > 0 }
	for {
		b := a.reservation(e)
		b.short++
		err := a.persist(ctx, func() bool { return a.closed || hasRoom(a) })
		b.short--
		if err != nil {
			return fmt.Errorf("nothing was sent to %s, since it could not be recorded first: %w", e.name, err)
		}
		if a.closed {
			return ErrClosed
		}
		other := a.unwrittenOther(hasRoom)
		if other == nil {
			return nil
		}
		other.reservation(e).short++
		other.writeForOther(ctx, hasRoom)
		other.reservation(e).short--
		if ctx.Err() != nil {
			return waitingEnded(ctx, e)
		}
	}
}

// take uses one reserved request of each journal that has any.
func (a *Limiter) take(s *Permit) {
	a.reservation(s.endpoint).reserved--
	s.reserved = true
	if len(a.pool.limiters) == 1 {
		return
	}
	for _, other := range a.pool.limiters {
		if b := other.reservation(s.endpoint); other != a && b.reserved > 0 {
			b.reserved--
			s.sharers = append(s.sharers, other)
		}
	}
}

// dropReserved makes the next write exact, also where one is in progress that reserves more.
func (a *Limiter) dropReserved() {
	for _, b := range a.reservations {
		if b.reserved > 0 || a.writing != nil {
			b.reserved = 0
			a.pool.version++
		}
	}
}

// forgetReserved voids reservations of an endpoint that had no limit for a time: journals written
// in that time do not count them.
func (p *pool) forgetReserved(e *endpoint) {
	for _, a := range p.limiters {
		if b := a.reservations[e]; b != nil {
			b.reserved = 0
		}
	}
}

// write is one call to the journal. Those who need it wait on it instead of writing each for
// himself.
type write struct {
	number    uint64
	done      chan struct{}
	err       error
	abandoned bool // by the one whose context it had
}

var errUnfinished = errors.New("the journal did not return")

// persist has the state written until enough has come true. A failure is shared by all who waited
// when that write began.
func (a *Limiter) persist(ctx context.Context, enough func() bool) error {
	begun := a.writes
	for !enough() {
		w := a.writing
		if w == nil {
			if err := a.write(ctx); err != nil {
				return err
			}
			continue
		}
		if err := a.join(ctx, w); err != nil {
			return err
		}
		if w.err != nil && !w.abandoned && w.number > begun {
			return w.err
		}
	}
	return nil
}

// join waits for a write to end.
func (a *Limiter) join(ctx context.Context, w *write) error {
	a.mu.Unlock()
	defer a.mu.Lock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the state of KSeF's request limits to be stored: %w", context.Cause(ctx))
	}
}

// write saves the limiter's state with further requests reserved at each endpoint that is short of
// them.
func (a *Limiter) write(ctx context.Context) error {
	a.writes++
	w := &write{number: a.writes, done: make(chan struct{}), err: errUnfinished}
	a.writing = w
	version := a.pool.version
	var short []*reservation
	if !a.closed {
		for _, b := range a.reservations {
			if b.short > 0 {
				short = append(short, b)
			}
		}
	}
	rec := a.snapshot(time.Now())
	defer func() {
		w.abandoned = ctx.Err() != nil
		a.writing = nil
		close(w.done)
	}()
	if w.err = a.save(ctx, rec); w.err != nil {
		return w.err
	}
	a.saved, a.restsUntil = version, time.Time{}
	for _, b := range short {
		if !a.closed {
			b.reserved += reserveAhead
		}
	}
	return nil
}

func (a *Limiter) save(ctx context.Context, rec record) error {
	a.mu.Unlock()
	defer a.mu.Lock()
	data, err := rec.encode()
	if err != nil {
		return err
	}
	if err := a.journal.Save(ctx, data); err != nil {
		return fmt.Errorf("storing the state of KSeF's request limits: %w", err)
	}
	return nil
}
