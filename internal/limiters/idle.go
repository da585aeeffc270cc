// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package limiters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// idleAfter is how long a limiter stays open that has no request to remember.
const idleAfter = time.Hour

// DropIdle drops the limiters that have been idle for an hour, and returns whether there were any:
// that of OpenOwn may be among them.
func (s *Set) DropIdle(ctx context.Context) (dropped bool, err error) {
	s.mu.Lock()
	keys := slices.Collect(maps.Keys(s.byKey))
	s.mu.Unlock()
	var failures []error
	for _, key := range keys {
		gone, err := s.drop(ctx, key, idleAfter)
		dropped = dropped || gone
		failures = append(failures, err)
	}
	return dropped, errors.Join(append(failures, s.openAddress(ctx))...)
}

// drop closes a limiter that has been idle for so long, and deletes its journal. It cannot be
// opened at the same time.
func (s *Set) drop(ctx context.Context, key ratelimit.Key, idle time.Duration) (dropped bool, err error) {
	if err := s.opening.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("waiting for the state of KSeF's request limits: %w", err)
	}
	defer s.opening.Release(1)
	limiter := s.opened(key)
	if limiter == nil || !limiter.CloseIdle(idle) || !s.forget(key, limiter) {
		return false, nil
	}
	return true, s.storage.Delete(ctx, journalKey(key))
}

// forget takes a closed limiter out of use. It returns false once the set is closed.
func (s *Set) forget(key ratelimit.Key, limiter *ratelimit.Limiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == limiter {
		delete(s.byKey, key)
	}
	return !s.closed
}

// OpenOwn opens the limiter of config's own taxpayer, which stays open while the mount is loaded:
// its journal then counts what other mounts send for that one, whether or not this one does.
func (s *Set) OpenOwn(ctx context.Context, api string, taxpayer client.ContextIdentifier) error {
	s.own.Store(&api)
	err := s.openAddress(ctx)
	if taxpayer.IsZero() {
		return err
	}
	_, ownErr := s.limiter(ctx, keyOf(api, taxpayer))
	return errors.Join(err, ownErr)
}

// openAddress opens the limiter of the source address at config's API where KSeF has reported a
// limit of all requests to any mount, for the same reason. Without one, an idle mount need not
// count logins.
func (s *Set) openAddress(ctx context.Context) error {
	own := s.own.Load()
	if own == nil {
		return nil
	}
	address := ratelimit.Key{API: *own}
	if s.registry.Limits(address, ratelimit.AllRequests) == (ratelimit.Limits{}) {
		return nil
	}
	_, err := s.limiter(ctx, address)
	return err
}
