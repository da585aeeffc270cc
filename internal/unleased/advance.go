// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// Advance does what is due: rotations, also those that have failed, the ends of grace periods,
// revocations after a crash. next is when to call it again; zero for nothing due. The error is of
// storage or of Spec; a failed rotation is an Event and in Troubles.
func (h *Holders) Advance(ctx context.Context) (next time.Time, err error) {
	if err := h.list(ctx); err != nil {
		return time.Now().Add(afterFailure.Shortest), err
	}
	// By the wall clock: the monotonic one may stand still while a machine sleeps.
	err = h.each(h.dueKeys(time.Now().Round(0)), func(key Key) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := h.change(ctx, key, true, func(c *change) error { return c.advance(ctx) })
		return h.postpone(ctx, key, err)
	})
	return h.nextDue(), err
}

// list finds the holders once per start: those with a state are all due, those of a live record
// that no state names are to be swept.
func (h *Holders) list(ctx context.Context) error {
	var listed bool
	h.update(func() { listed, h.listed = h.listed, true })
	if listed {
		return nil
	}
	err := h.addAll(ctx)
	if err != nil {
		h.update(func() { h.listed = false })
	}
	return err
}

func (h *Holders) addAll(ctx context.Context) error {
	// The records come first: a token that a rotation in progress has made since is not among them.
	records, err := h.Ledger.Unleased(ctx)
	if err != nil {
		return err
	}
	keys, err := h.storedKeys(ctx, StoragePrefix)
	if err != nil {
		return err
	}
	named, err := h.namedTokens(ctx, keys)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		h.holderLocked(key).due = time.Now()
	}
	for i := range records {
		if _, known := named[records[i].ReferenceNumber]; known || records[i].State != ledger.Live {
			continue
		}
		unnamed := h.holderLocked(HolderOf(&records[i]))
		unnamed.sweep, unnamed.due = true, time.Now()
	}
	return nil
}

// namedTokens returns the numbers that the states name. A state that cannot be read is reported by
// the change of its holder.
func (h *Holders) namedTokens(ctx context.Context, keys []Key) (map[string]struct{}, error) {
	named := make(map[string]struct{})
	for _, key := range keys {
		found, err := h.loadState(ctx, key)
		if err != nil && !errors.Is(err, errUnreadableState) {
			return nil, err
		}
		if err != nil {
			continue
		}
		for _, referenceNumber := range found.names() {
			named[referenceNumber] = struct{}{}
		}
	}
	return named, nil
}

func (h *Holders) dueKeys(now time.Time) (keys []Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, holder := range h.holders {
		if !holder.due.IsZero() && !holder.due.After(now) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (h *Holders) nextDue() (next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, holder := range h.holders {
		next = background.Earlier(next, holder.due)
	}
	return next
}

// postpone sets when a holder is due again whose work has failed. A state that cannot be read waits
// for its role to be deleted.
func (h *Holders) postpone(ctx context.Context, key Key, err error) error {
	holder := h.holder(key)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		holder.faults = 0
		return nil
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, errUnreadableState):
		holder.due = time.Time{}
		return err
	}
	holder.due = time.Now().Add(afterFailure.Jittered(holder.faults))
	holder.faults++
	return err
}

// advance does what is due for one holder. A failed rotation is recorded, and no error.
func (c *change) advance(ctx context.Context) error {
	if c.state.isEmpty() && c.state.Pending == nil {
		c.forget()
		return nil
	}
	if c.spec == nil || c.spec.ended(time.Now()) {
		return c.endAll(ctx)
	}
	if pending := c.state.Pending; pending != nil && pending.Imported {
		if _, err := c.settleImport(ctx); err != nil || c.state.isEmpty() {
			return err
		}
	}
	if err := c.recheck(ctx); err != nil {
		return err
	}
	if err := c.retireUnneeded(ctx); err != nil {
		return err
	}
	if _, err := c.revokeOver(ctx); err != nil {
		return err
	}
	changed, err := c.state.replan(c.spec, time.Now())
	if err != nil {
		return err
	}
	if c.isRotationDue() {
		if err := c.rotate(ctx); err != nil {
			if c.recorded {
				return nil
			}
			return err
		}
		_, err := c.revokeOver(ctx)
		return err
	}
	if changed {
		return c.save(ctx)
	}
	c.publish()
	return nil
}

func (c *change) isRotationDue() bool {
	return c.isTokenDue() && c.mayTry() == nil
}

// isTokenDue says that another token is to be in force, or that a rotation is planned for now.
func (c *change) isTokenDue() bool {
	if c.state.wantsToken(c.spec) {
		return true
	}
	next := c.state.nextRotation(c.spec)
	return !next.IsZero() && !time.Now().Before(next)
}

// endAll ends a holder whose role is gone, or whose tokens KSeF no longer accepts.
func (c *change) endAll(ctx context.Context) error {
	c.state.Ending = endingRevoke
	if err := c.save(ctx); err != nil {
		return err
	}
	if _, err := c.finishEnding(ctx, nil); err != nil && !isPending(err) {
		return err
	}
	return nil
}

// recheck asks KSeF again for the state of a token that was handed out unchecked.
func (c *change) recheck(ctx context.Context) (err error) {
	var due time.Time
	c.update(func() { due = c.holder.recheck })
	if due.IsZero() || time.Now().Round(0).Before(due) {
		return nil
	}
	// The answer may set another time.
	c.update(func() { c.holder.recheck = time.Time{} })
	if c.state.Current == nil || c.state.Current.Dead {
		return nil
	}
	defer func() {
		if err != nil {
			c.update(func() { c.holder.recheck = due })
		}
	}()
	_, dead, err := c.checkCurrent(ctx)
	if err != nil || dead == nil {
		return err
	}
	return c.markDead(ctx, *dead)
}

// retireUnneeded takes the token of an access-token role out of force that nothing has used for
// long, or that has other permissions than the role.
func (c *change) retireUnneeded(ctx context.Context) error {
	unused := c.state.UnusedSince
	isUnused := !unused.IsZero() && !time.Now().Before(unused.Add(unusedLife))
	if c.state.Current == nil || (!isUnused && !c.isOutdated()) {
		return nil
	}
	c.state.retire(time.Now())
	c.state.UnusedSince = time.Time{}
	c.state.forgetFailures()
	return c.save(ctx)
}

// ApplyRole applies an access-token role that was written, for all taxpayers: tokens with another
// Fingerprint, and those of taxpayers that have no Spec any more, are not in force when it returns,
// and are revoked by Advance. The next Token has others made.
func (h *Holders) ApplyRole(ctx context.Context, kind ledger.HolderKind, role string) error {
	keys, err := h.storedKeys(ctx, rolePrefix(kind, role))
	if err != nil {
		return err
	}
	return h.each(keys, func(key Key) error {
		return h.change(ctx, key, false, func(c *change) error {
			if c.spec == nil {
				c.state.Ending = endingRevoke
				return c.save(ctx)
			}
			if err := c.retireUnneeded(ctx); err != nil {
				return err
			}
			if changed, err := c.state.replan(c.spec, time.Now()); err != nil || !changed {
				return err
			}
			return c.save(ctx)
		})
	})
}

// MarkUnused says that nothing has used the token since then. Without a Token call it is revoked
// seven days later.
func (h *Holders) MarkUnused(ctx context.Context, key Key, since time.Time) error {
	return h.change(ctx, key, false, func(c *change) error {
		if c.state.Current == nil {
			return nil
		}
		c.state.UnusedSince = since.UTC()
		return c.save(ctx)
	})
}
