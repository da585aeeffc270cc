// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"context"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// runOnce begins the renewals that are due, as far as there are workers: one that ends wakes the
// loop. next is when another is due.
func (t *Tokens) runOnce(ctx context.Context) (next time.Time) {
	if !t.restored {
		if err := t.restore(ctx); err != nil {
			t.options.Logger.Warn("the access tokens of before the start are refreshed once they are read", "error", err)
		}
		t.restored = true
	}
	due, next := t.dueEntries(time.Now())
	for _, e := range due {
		if !t.workers.TryAcquire(1) {
			return next
		}
		t.renewAhead(e)
	}
	return next
}

// dueEntries returns those whose renewal is due, the longest due first, and when the next is.
func (t *Tokens) dueEntries(now time.Time) (due []*entry, next time.Time) {
	at := make(map[*entry]time.Time)
	for _, e := range t.all() {
		switch when := e.nextDue(); {
		case when.IsZero():
		case when.After(now):
			next = background.Earlier(next, when)
		default:
			at[e] = when
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *entry) int { return at[a].Compare(at[b]) })
	return due, next
}

// restore takes up the keys that storage has. Their sessions are refreshed one after another, and
// those ended that have not been read for long.
func (t *Tokens) restore(ctx context.Context) error {
	found, err := t.records(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	for _, one := range found {
		if t.entry(one.key()).restore(one.LastRead, at) {
			at = at.Add(loginPause)
		}
	}
	return nil
}

// restore returns false where the key has been read or ended in this process.
func (e *entry) restore(lastRead, due time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.lastRead.IsZero() || !e.due.IsZero() {
		return false
	}
	e.lastRead, e.recorded, e.due, e.known = lastRead, lastRead, due, true
	return true
}
