// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// idleLimits is how long the limits of a context are kept that have nothing to remember any more.
const idleLimits = time.Hour

// dropIdle drops the limiters that have been idle for long enough, and tells whether there were
// any.
func (b *limiters) dropIdle(ctx context.Context) (dropped bool, err error) {
	b.mu.Lock()
	keys := slices.Collect(maps.Keys(b.byKey))
	b.mu.Unlock()
	var failures []error
	for _, key := range keys {
		gone, err := b.drop(ctx, key, idleLimits)
		dropped = dropped || gone
		failures = append(failures, err)
	}
	return dropped, errors.Join(failures...)
}

// drop closes an limiter that has been idle for so long, and deletes its journal. It cannot be
// opened at the same time.
func (b *limiters) drop(ctx context.Context, key ratelimit.Key, idle time.Duration) (dropped bool, err error) {
	if err := b.opening.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("waiting for the state of KSeF's request limits: %w", err)
	}
	defer b.opening.Release(1)
	limiter := b.opened(key)
	if limiter == nil || !limiter.CloseIdle(idle) || !b.forget(key, limiter) {
		return false, nil
	}
	return true, b.storage.Delete(ctx, journalKey(key))
}

// forget takes a closed limiter out of use. It is false once the mount has been unloaded.
func (b *limiters) forget(key ratelimit.Key, limiter *ratelimit.Limiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byKey[key] == limiter {
		delete(b.byKey, key)
	}
	return !b.closed
}

// openOwnLimits opens the limiter of config's own context, which stays open while the mount is
// loaded: its journal then counts what other mounts send there, whether or not this one does.
func (b *backend) openOwnLimits(ctx context.Context, stored *config) error {
	b.limiters.own.Store(&stored.URL)
	err := b.limiters.openAddress(ctx)
	if stored.Context.IsZero() {
		return err
	}
	_, ownErr := b.limiters.limiter(ctx, ratelimit.Key{API: stored.URL, Context: stored.Context.String()})
	return errors.Join(err, ownErr)
}

// openAddress opens the limiter of the source address at config's API where any mount has been told
// a limit of all requests, for the same reason. Without one, an idle mount need not count logins.
func (b *limiters) openAddress(ctx context.Context) error {
	own := b.own.Load()
	if own == nil {
		return nil
	}
	address := ratelimit.Key{API: *own}
	if b.registry.Limits(address, ratelimit.AllRequests) == (ratelimit.Limits{}) {
		return nil
	}
	_, err := b.limiter(ctx, address)
	return err
}

// dropIdleLimits forgets the limits of contexts that nobody has used for long.
func (b *backend) dropIdleLimits(ctx context.Context) {
	dropped, err := b.limiters.dropIdle(ctx)
	err = errors.Join(err, b.limiters.openAddress(ctx))
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
