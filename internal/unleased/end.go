// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// sideBySide is how many holders are worked on at a time.
const sideBySide = 8

// Delete revokes the holder's tokens, or with keep releases them, and returns their numbers. Where
// it fails, Advance goes on. The error is a *ledger.PendingError where KSeF has not confirmed each
// revocation: the ledger goes on with it.
func (h *Holders) Delete(ctx context.Context, key Key, keep bool) (referenceNumbers []string, err error) {
	what := endingRevoke
	if keep {
		what = endingRelease
	}
	err = h.end(ctx, key, what, func(c *change) error {
		referenceNumbers, err = c.finishEnding(ctx, nil)
		return err
	})
	return referenceNumbers, err
}

// DeleteRole is Delete for all taxpayers of a role. None of its tokens is in force from its first
// success on; Advance goes on where ctx ends before all revocations were asked for.
func (h *Holders) DeleteRole(ctx context.Context, kind ledger.HolderKind, role string) (referenceNumbers []string, err error) {
	records, err := h.Ledger.Unleased(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := h.keys(ctx, kind, role, records)
	if err != nil {
		return nil, err
	}
	if err := h.each(keys, func(key Key) error {
		return h.end(ctx, key, endingRevoke, func(*change) error { return nil })
	}); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	err = h.each(keys, func(key Key) error {
		return h.end(ctx, key, endingRevoke, func(c *change) error {
			numbers, err := c.finishEnding(ctx, records)
			mu.Lock()
			defer mu.Unlock()
			referenceNumbers = append(referenceNumbers, numbers...)
			return err
		})
	})
	slices.Sort(referenceNumbers)
	return referenceNumbers, err
}

// keys returns the holders of a role that have or had tokens, and those of the live records, which
// may have no state.
func (h *Holders) keys(ctx context.Context, kind ledger.HolderKind, role string, records []ledger.Record) ([]Key, error) {
	keys, err := h.storedKeys(ctx, rolePrefix(kind, role))
	if err != nil {
		return nil, err
	}
	for i := range records {
		key := HolderOf(&records[i])
		if records[i].State == ledger.Live && key.Kind == kind && key.Role == role && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// each calls do for the keys, some side by side, and waits for all.
func (h *Holders) each(keys []Key, do func(Key) error) error {
	var group sync.WaitGroup
	running := make(chan struct{}, sideBySide)
	errs := make([]error, len(keys))
	for i, key := range keys {
		running <- struct{}{}
		group.Go(func() {
			defer func() { <-running }()
			if err := background.Contain(h.Logger, "the holders of tokens", func() { errs[i] = do(key) }); err != nil {
				errs[i] = err
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// end records that the holder is being deleted, and calls do before the next change of it. A state
// that cannot be read is replaced: its tokens are found by their records.
func (h *Holders) end(ctx context.Context, key Key, what ending, do func(*change) error) error {
	holder := h.holder(key)
	release, err := h.lock(ctx, holder)
	if err != nil {
		return err
	}
	defer release()
	c := &change{Holders: h, holder: holder}
	c.state, err = h.loadState(ctx, key)
	if err != nil && !errors.Is(err, errUnreadableState) {
		return err
	}
	if c.state == nil {
		c.state = newState(key)
	}
	if c.state.Ending == "" {
		c.state.Ending = what
		if err := c.save(ctx); err != nil {
			return err
		}
	}
	return do(c)
}

// finishEnding revokes or releases the tokens of a holder that is being deleted, and removes its
// state. records are those of the ledger; nil has them read.
func (c *change) finishEnding(ctx context.Context, records []ledger.Record) (referenceNumbers []string, err error) {
	var sweeps bool
	c.update(func() { sweeps = c.holder.sweep })
	if records == nil || sweeps {
		if records, err = c.Ledger.Unleased(ctx); err != nil {
			return nil, err
		}
	}
	released := c.released(records)
	referenceNumbers = append(slices.Clone(released), c.toRevoke(records, released)...)
	var unconfirmed []error
	for _, referenceNumber := range referenceNumbers {
		err := c.endToken(ctx, referenceNumber, slices.Contains(released, referenceNumber))
		if err != nil && !isPending(err) {
			return nil, err
		}
		unconfirmed = append(unconfirmed, err)
	}
	if err := c.deleteState(ctx, c.holder.key); err != nil {
		return nil, err
	}
	c.update(func() { c.holder.sweep = false })
	c.forget()
	return referenceNumbers, errors.Join(unconfirmed...)
}

// released are the tokens that are handed back: those that callers may still use, as far as they
// are not dead.
func (c *change) released(records []ledger.Record) (referenceNumbers []string) {
	if c.state.Ending != endingRelease {
		return nil
	}
	if c.state.Current != nil {
		referenceNumbers = append(referenceNumbers, c.state.Current.ReferenceNumber)
	}
	if pending := c.state.Pending; pending != nil && pending.Imported {
		referenceNumbers = append(referenceNumbers, pending.ReferenceNumber)
	}
	for _, before := range c.state.Previous {
		if time.Now().Before(before.Until) {
			referenceNumbers = append(referenceNumbers, before.ReferenceNumber)
		}
	}
	return slices.DeleteFunc(referenceNumbers, func(referenceNumber string) bool {
		record := recordOf(records, referenceNumber)
		return record == nil || HolderOf(record) != c.holder.key
	})
}

func recordOf(records []ledger.Record, referenceNumber string) *ledger.Record {
	for i := range records {
		if records[i].ReferenceNumber == referenceNumber {
			return &records[i]
		}
	}
	return nil
}

// toRevoke are all other tokens of the holder. A token of another is among those that the state
// names where a crash has kept the ledger from refusing its import.
func (c *change) toRevoke(records []ledger.Record, released []string) (referenceNumbers []string) {
	for _, referenceNumber := range append(c.state.names(), c.unnamed(records)...) {
		record := recordOf(records, referenceNumber)
		isOthers := record != nil && HolderOf(record) != c.holder.key
		if !isOthers && !slices.Contains(released, referenceNumber) {
			referenceNumbers = append(referenceNumbers, referenceNumber)
		}
	}
	return referenceNumbers
}

func (c *change) endToken(ctx context.Context, referenceNumber string, release bool) error {
	var err error
	if release {
		err = c.Ledger.Release(ctx, referenceNumber)
	} else {
		err = c.Ledger.RevokeUnleased(ctx, referenceNumber, "its role was deleted")
	}
	if err != nil {
		return fmt.Errorf("ending the token %s of %s: %w", referenceNumber, c.holder.key, err)
	}
	return nil
}
