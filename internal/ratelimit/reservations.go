// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// reserveAhead is how many further requests at an endpoint one write of the journal covers. After a
// crash the unsent ones count for an hour, too.
const reserveAhead = 8

// reservation is what a limiter has in flight or reserved at one endpoint.
type reservation struct {
	inFlight int
	reserved int // requests of any limiter that this journal counts in advance
	waiting  int // waiters that need a write
}

func (l *Limiter) reservation(e *endpoint) *reservation {
	r := l.reservations[e]
	if r == nil {
		r = &reservation{}
		l.reservations[e] = r
	}
	return r
}

// reserve makes the journals count the request of a permit before it is sent.
func (l *Limiter) reserve(ctx context.Context, p *Permit) error {
	if l.closed {
		return ErrClosed
	}
	r := l.reservation(p.endpoint)
	if p.endpoint.limits.any() {
		if err := l.ensureReserved(ctx, p.endpoint); err != nil {
			return err
		}
		l.useReserved(p)
	}
	r.inFlight++
	return nil
}

// ensureReserved returns once the limiter's journal counts a further request, and those of the
// others do as far as they can.
func (l *Limiter) ensureReserved(ctx context.Context, e *endpoint) error {
	hasReserved := func(l *Limiter) bool { return l.reservation(e).reserved > 0 }
	for {
		r := l.reservation(e)
		r.waiting++
		err := l.persist(ctx, func() bool { return l.closed || hasReserved(l) })
		r.waiting--
		if err != nil {
			return fmt.Errorf("nothing was sent to %s, since it could not be recorded first: %w", e.name, err)
		}
		if l.closed {
			return ErrClosed
		}
		other := l.unwrittenOther(hasReserved)
		if other == nil {
			return nil
		}
		other.reservation(e).waiting++
		other.writeForOther(ctx, hasReserved)
		other.reservation(e).waiting--
		if ctx.Err() != nil {
			return waitingEnded(ctx, e)
		}
	}
}

// useReserved takes one reserved request of each journal that has any.
func (l *Limiter) useReserved(p *Permit) {
	l.reservation(p.endpoint).reserved--
	p.reserved = true
	if len(l.pool.limiters) == 1 {
		return
	}
	for _, other := range l.pool.limiters {
		if r := other.reservation(p.endpoint); other != l && r.reserved > 0 {
			r.reserved--
			p.alsoReserved = append(p.alsoReserved, other)
		}
	}
}

// dropReserved makes the next write exact, even if one in progress reserves more.
func (l *Limiter) dropReserved() {
	for _, r := range l.reservations {
		if r.reserved > 0 || l.writing != nil {
			r.reserved = 0
			l.pool.version++
		}
	}
}

// forgetReserved drops the reservations of an endpoint that had no limit for a time: journals
// written in that time do not count them.
func (p *pool) forgetReserved(e *endpoint) {
	for _, l := range p.limiters {
		if r := l.reservations[e]; r != nil {
			r.reserved = 0
		}
	}
}

// write is one call to the journal. Callers that need the same write wait for it together.
type write struct {
	number    uint64
	done      chan struct{}
	err       error
	abandoned bool // the context of its caller has ended
}

var errUnfinished = errors.New("the journal did not return")

// persist writes the state until upToDate holds. All callers that waited when a write began share
// its failure.
func (l *Limiter) persist(ctx context.Context, upToDate func() bool) error {
	begun := l.writes
	for !upToDate() {
		w := l.writing
		if w == nil {
			if err := l.write(ctx); err != nil {
				return err
			}
			continue
		}
		if err := l.waitFor(ctx, w); err != nil {
			return err
		}
		if w.err != nil && !w.abandoned && w.number > begun {
			return w.err
		}
	}
	return nil
}

// waitFor waits for a write to end.
func (l *Limiter) waitFor(ctx context.Context, w *write) error {
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the state of KSeF's request limits to be stored: %w", context.Cause(ctx))
	}
}

// write saves the limiter's state, with further requests reserved where waiters need them.
func (l *Limiter) write(ctx context.Context) error {
	l.writes++
	w := &write{number: l.writes, done: make(chan struct{}), err: errUnfinished}
	l.writing = w
	version := l.pool.version
	var short []*reservation
	if !l.closed {
		for _, r := range l.reservations {
			if r.waiting > 0 {
				short = append(short, r)
			}
		}
	}
	rec := l.snapshot(time.Now())
	defer func() {
		w.abandoned = ctx.Err() != nil
		l.writing = nil
		close(w.done)
	}()
	if w.err = l.save(ctx, rec); w.err != nil {
		return w.err
	}
	l.saved, l.journalPausedUntil = version, time.Time{}
	for _, r := range short {
		if !l.closed {
			r.reserved += reserveAhead
		}
	}
	return nil
}

func (l *Limiter) save(ctx context.Context, rec record) error {
	l.mu.Unlock()
	defer l.mu.Lock()
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encoding the journal of KSeF's request limits: %w", err)
	}
	if err := l.journal.Save(ctx, data); err != nil {
		return fmt.Errorf("storing the state of KSeF's request limits: %w", err)
	}
	return nil
}

// After a crash mounts are loaded one by one, and until then their journals are not read. So each
// journal counts the requests of all limiters of its key.
const (
	// otherJournalMaxWait bounds how long a request waits for the journal of another limiter.
	otherJournalMaxWait = time.Second
	// failedJournalPause is how long a failed journal of another limiter is left out: one mount's
	// storage must not stop another mount. What is sent in that time is missing there until the
	// next write.
	failedJournalPause = time.Minute
)

// unwrittenOther returns another open limiter whose journal is not up to date, or nil.
func (l *Limiter) unwrittenOther(upToDate func(*Limiter) bool) *Limiter {
	if len(l.pool.limiters) == 1 && !l.closed {
		return nil
	}
	now := time.Now()
	for _, other := range l.pool.limiters {
		if other != l && !other.closed && !now.Before(other.journalPausedUntil) && !upToDate(other) {
			return other
		}
	}
	return nil
}

// writeForOther writes this limiter's journal on behalf of another.
func (l *Limiter) writeForOther(ctx context.Context, upToDate func(*Limiter) bool) {
	bounded, cancel := context.WithTimeout(ctx, otherJournalMaxWait)
	defer cancel()
	err := l.persist(bounded, func() bool { return l.closed || upToDate(l) })
	if err != nil && ctx.Err() == nil {
		l.journalPausedUntil = time.Now().Add(failedJournalPause)
	}
}

// writeOthers writes the journals of the others until they are up to date.
func (l *Limiter) writeOthers(ctx context.Context, upToDate func(*Limiter) bool) {
	for ctx.Err() == nil {
		other := l.unwrittenOther(upToDate)
		if other == nil {
			return
		}
		other.writeForOther(ctx, upToDate)
	}
}

// catchUp writes what the other limiters have sent to the journal of a limiter just opened. It
// ignores failures: the next write includes it.
func (l *Limiter) catchUp(ctx context.Context) {
	if len(l.pool.limiters) == 1 || !l.snapshot(time.Now()).hasOthers() {
		return
	}
	l.pool.version++
	opened := l.pool.version
	l.writeForOther(ctx, func(l *Limiter) bool { return l.saved >= opened })
}

func (r record) hasOthers() bool {
	for _, stored := range r.Endpoints {
		if len(stored.Others) > 0 || stored.Blocked > 0 {
			return true
		}
	}
	return false
}

// replaceIfMore takes the requests of a limiter that is not open from another's journal, unless
// more of them are known.
func (e *endpoint) replaceIfMore(limiter string, times []sentAt) {
	known := 0
	for _, s := range e.sent {
		if s.limiter == limiter {
			known++
		}
	}
	if len(times) > known {
		e.replace(limiter, times)
	}
}
