// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/internal/budget"
)

// idleLimits is how long the limits of a context are kept that have nothing to
// remember any more.
const idleLimits = time.Hour

// dropIdle drops the accounts that have been idle for long enough, and tells
// whether there were any.
func (b *budgets) dropIdle(ctx context.Context) (dropped bool, err error) {
	b.mu.Lock()
	keys := slices.Collect(maps.Keys(b.accounts))
	b.mu.Unlock()
	var failures []error
	for _, key := range keys {
		gone, err := b.drop(ctx, key, idleLimits)
		dropped = dropped || gone
		failures = append(failures, err)
	}
	return dropped, errors.Join(failures...)
}

// drop closes an account that has been idle for so long, and deletes its
// journal. It cannot be opened at the same time.
func (b *budgets) drop(ctx context.Context, key budget.Key, idle time.Duration) (dropped bool, err error) {
	if err := b.opening.Take(ctx); err != nil {
		return false, err
	}
	defer b.opening.Release()
	account := b.opened(key)
	if account == nil || !account.CloseIdle(idle) || !b.forget(key, account) {
		return false, nil
	}
	return true, b.storage.Delete(ctx, journalKey(key))
}

// forget takes a closed account out of use. It is false once the mount has been
// unloaded.
func (b *budgets) forget(key budget.Key, account *budget.Account) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.accounts[key] == account {
		delete(b.accounts, key)
	}
	return !b.closed
}

// openOwnLimits opens the account of config's own context, which stays open
// while the mount is loaded: its journal then counts what other mounts send
// there, whether or not this one does.
func (b *backend) openOwnLimits(ctx context.Context, stored *config) error {
	b.budgets.own.Store(&stored.URL)
	err := b.budgets.openAddress(ctx)
	if stored.Context.IsZero() {
		return err
	}
	_, ownErr := b.budgets.account(ctx, budget.Key{API: stored.URL, Context: stored.Context.String()})
	return errors.Join(err, ownErr)
}

// openAddress opens the account of the source address at config's API where any mount has been told
// a limit of all requests, for the same reason. Without one, an idle mount need not count logins.
func (b *budgets) openAddress(ctx context.Context) error {
	own := b.own.Load()
	if own == nil {
		return nil
	}
	address := budget.Key{API: *own}
	if b.registry.Limits(address, budget.AllRequests) == (budget.Limits{}) {
		return nil
	}
	_, err := b.account(ctx, address)
	return err
}

// dropIdleLimits forgets the limits of contexts that nobody has used for long.
func (b *backend) dropIdleLimits(ctx context.Context) {
	dropped, err := b.budgets.dropIdle(ctx)
	err = errors.Join(err, b.budgets.openAddress(ctx))
	if dropped {
		stored, readErr := readConfig(ctx, b.storage)
		if readErr == nil && stored != nil {
			readErr = b.openOwnLimits(ctx, stored)
		}
		err = errors.Join(err, readErr)
	}
	if err != nil {
		b.Logger().Warn("the idle state of KSeF's request limits could not be dropped; the next minute tries again", "error", err)
	}
}
