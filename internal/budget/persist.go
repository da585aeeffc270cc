// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package budget

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// reserveAhead is how many further requests at an endpoint one write to the journal covers. After a crash, those that did not
// go count for an hour all the same.
const reserveAhead = 8

// book is what an account has to answer for at one endpoint, besides the requests that have ended.
type book struct {
	inFlight int
	reserved int    // requests that may go without another write
	short    int    // waiters that need a write
	blocked  uint64 // the version that has the latest block
}

func (a *Account) book(e *endpoint) *book {
	b := a.books[e]
	if b == nil {
		b = &book{}
		a.books[e] = b
	}
	return b
}

// reserve sees to it that the journal counts the request of a slot before it goes.
func (a *Account) reserve(ctx context.Context, s *Slot) error {
	if a.closed {
		return ErrClosed
	}
	b := a.book(s.endpoint)
	if s.endpoint.limits.outliveRestart() {
		b.short++
		err := a.persist(ctx, func() bool { return a.closed || b.reserved > 0 })
		b.short--
		if err != nil {
			return fmt.Errorf("reserving a slot of %s: %w", s.endpoint.name, err)
		}
		if a.closed {
			return ErrClosed
		}
		b.reserved--
		s.reserved = true
	}
	b.inFlight++
	return nil
}

// dropReserved makes the next write exact, also where one is under way that reserves more.
func (a *Account) dropReserved() {
	for _, b := range a.books {
		if b.reserved > 0 || a.writing != nil {
			b.reserved = 0
			a.version++
		}
	}
}

// write is one call to the journal. Those who need it wait on it instead of writing each for himself.
type write struct {
	number    uint64
	done      chan struct{}
	err       error
	abandoned bool // by the one whose context it had
}

var errUnfinished = errors.New("the journal did not return")

// persist has the state written until enough has come true. A failure is shared by all who waited when that write began.
func (a *Account) persist(ctx context.Context, enough func() bool) error {
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
func (a *Account) join(ctx context.Context, w *write) error {
	a.mu.Unlock()
	defer a.mu.Lock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the budget journal: %w", context.Cause(ctx))
	}
}

// write saves the account's state with further requests reserved at each endpoint that is short of them.
func (a *Account) write(ctx context.Context) error {
	a.writes++
	w := &write{number: a.writes, done: make(chan struct{}), err: errUnfinished}
	a.writing = w
	version := a.version
	var short []*book
	if !a.closed {
		for _, b := range a.books {
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
	a.saved = version
	for _, b := range short {
		if !a.closed {
			b.reserved += reserveAhead
		}
	}
	return nil
}

func (a *Account) save(ctx context.Context, rec record) error {
	a.mu.Unlock()
	defer a.mu.Lock()
	data, err := rec.encode()
	if err != nil {
		return err
	}
	if err := a.journal.Save(ctx, data); err != nil {
		return fmt.Errorf("saving the budget journal: %w", err)
	}
	return nil
}
