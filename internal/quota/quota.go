// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package quota counts the tokens of roles, and refuses those beyond a role's limits.
//
// A token counts as long as it has a record, and before that from its admission on. What storage
// has is read once, when a limit is first checked; from then on each write is reported.
package quota

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Limits bound the tokens of a role in one context; 0 is no limit.
type Limits struct {
	// MaxLive is the most tokens that are issuing, live or revoking.
	MaxLive int
	// MaxLivePerEntity is the same for one requester.
	MaxLivePerEntity int
	// MaxPerHour is the most tokens issued within an hour.
	MaxPerHour int
}

// Group is what a limit bounds: the tokens of a role in one context.
type Group struct{ Role, Target string }

// Token is a token to be counted.
type Token struct {
	Group
	// ID is the same in all records of the token.
	ID string
	// Requester is who asked for it; "" where that is not known.
	Requester string
	Created   time.Time
}

// Counts is safe for concurrent use.
type Counts struct {
	read    func(ctx context.Context, into *Index) error
	reading *semaphore.Weighted

	mu sync.Mutex
	// index is nil as long as it must be read.
	index *Index
	// isReading says that storage is being read, changes what has changed since that began, and
	// isStale that the reading is of no use.
	isReading, isStale bool
	changes            []func(*Index)
	// begun are the admissions and writes that have not ended, which a reading may miss.
	begun map[*step]struct{}
}

// step is an admission or a write of a record.
type step struct {
	key   string
	token func() Token
}

func (s *step) apply(index *Index) { index.Add(s.key, s.token()) }

// New returns counts of what read finds in storage. It reads nothing yet.
func New(read func(ctx context.Context, into *Index) error) *Counts {
	return &Counts{read: read, reading: semaphore.NewWeighted(1), begun: make(map[*step]struct{})}
}

// Place is the permission to ask for a token.
type Place struct {
	counts *Counts
	step   *step
}

// Admit counts a token that is to be asked for, until its place is released. Without a limit it
// does nothing. Errors: a *client.InputError where a limit is reached, or a fault of storage.
func (c *Counts) Admit(ctx context.Context, token func() Token, limits Limits) (*Place, error) {
	if limits == (Limits{}) {
		return &Place{}, nil
	}
	asked := token()
	var place *Place
	err := c.with(ctx, func(index *Index) error {
		if err := index.check(&asked, limits, time.Now()); err != nil {
			return err
		}
		place = &Place{counts: c, step: c.begin(admissionPrefix+asked.ID, func() Token { return asked })}
		return nil
	})
	return place, err
}

// admissionPrefix begins the keys of admissions, which no record has.
const admissionPrefix = "admission/"

// Release ends the admission; from now on the token's records count. spent says that a token may
// have been made, so that the hour counts it.
func (p *Place) Release(spent bool) {
	if p.counts == nil {
		return
	}
	p.counts.mu.Lock()
	defer p.counts.mu.Unlock()
	delete(p.counts.begun, p.step)
	p.counts.change(func(index *Index) {
		index.remove(p.step.key)
		if !spent {
			index.removeIssued(p.step.token())
		}
	})
}

// Issued returns when the tokens of the last hour were issued, by their ids.
func (c *Counts) Issued(ctx context.Context, group Group) (issued map[string]time.Time, err error) {
	err = c.with(ctx, func(index *Index) error {
		issued = index.issuedSince(group, time.Now())
		return nil
	})
	return issued, err
}

// Live returns how many tokens are issuing, live or revoking.
func (c *Counts) Live(ctx context.Context) (live map[Group]int, err error) {
	err = c.with(ctx, func(index *Index) error {
		live = index.live()
		return nil
	})
	return live, err
}

// BeginWrite says that a token's record is about to be written under a key. token is called only
// where anything is counted. end must be called with the outcome of the write.
func (c *Counts) BeginWrite(key string, token func() Token) (end func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	step := c.begin(key, token)
	return func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.begun, step)
		c.forgetAfter(err)
	}
}

// Remove says that the record under a key counts no more, or, with an error, that this is not
// known.
func (c *Counts) Remove(key string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(func(index *Index) { index.remove(key) })
	c.forgetAfter(err)
}

// begin has the step counted at once, also by a reading that begins before the step ends. The
// caller holds the lock.
func (c *Counts) begin(key string, token func() Token) *step {
	begun := &step{key, token}
	c.begun[begun] = struct{}{}
	c.change(begun.apply)
	return begun
}

// change changes the index, if there is one; during a reading it waits for its end.
func (c *Counts) change(apply func(*Index)) {
	switch {
	case c.index != nil:
		apply(c.index)
	case c.isReading:
		c.changes = append(c.changes, apply)
	}
}

// forgetAfter has storage read again after a write whose outcome is not known.
func (c *Counts) forgetAfter(err error) {
	if err != nil {
		c.index, c.isStale = nil, true
	}
}

// with calls do with the index, locked. It reads storage where the index is not known.
func (c *Counts) with(ctx context.Context, do func(*Index) error) error {
	for {
		if err := c.load(ctx); err != nil {
			return err
		}
		if known, err := c.tryWith(do); known {
			return err
		}
	}
}

func (c *Counts) tryWith(do func(*Index) error) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.index == nil {
		return false, nil
	}
	return true, do(c.index)
}

// load reads storage, unless the index is known. The index stays unknown where a write has failed
// during the reading.
func (c *Counts) load(ctx context.Context) error {
	if c.isLoaded() {
		return nil
	}
	if err := c.reading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for the count of tokens: %w", err)
	}
	defer c.reading.Release(1)
	if c.isLoaded() {
		return nil
	}
	index := newIndex()
	c.beginReading()
	defer c.endReading()
	if err := c.read(ctx, index); err != nil {
		return fmt.Errorf("counting tokens: %w", err)
	}
	c.keep(index)
	return nil
}

func (c *Counts) isLoaded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index != nil
}

func (c *Counts) beginReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isReading, c.isStale = true, false
	for begun := range c.begun {
		c.change(begun.apply)
	}
}

func (c *Counts) keep(index *Index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isStale {
		return
	}
	for _, apply := range c.changes {
		apply(index)
	}
	c.index = index
}

func (c *Counts) endReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isReading, c.changes = false, nil
}
