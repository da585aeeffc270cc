// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"context"
	"errors"
	"sync"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"golang.org/x/sync/semaphore"
)

// End ends the session of a key, in KSeF and in storage, and forgets the key. What was handed out
// lives on to its end. A later Read logs in anew. Where it fails, reads are answered no more with
// what there was, and the background work tries again.
func (t *Tokens) End(ctx context.Context, key Key) error {
	return t.exclusively(ctx, key, t.end)
}

// EndRole is End for all keys of a role that was changed in a way that must show at once, or
// deleted. Where it fails, it is Changed for them as well: the end may not have been reached.
func (t *Tokens) EndRole(ctx context.Context, role string, static bool) error {
	isRoles := func(key Key) bool { return key.Role == role && key.Static == static }
	found, err := t.recordsOf(ctx, folderOf(role, static))
	if err = errors.Join(err, t.endAll(ctx, found, isRoles)); err != nil {
		t.Changed(isRoles)
	}
	return err
}

// EndAll is End for all keys: before config is deleted or leads to another KSeF.
func (t *Tokens) EndAll(ctx context.Context) error {
	found, err := t.records(ctx)
	return errors.Join(err, t.endAll(ctx, found, func(Key) bool { return true }))
}

// endAll ends the keys that storage has, and those in memory that match, workers of them at once.
func (t *Tokens) endAll(ctx context.Context, found []record, match func(Key) bool) error {
	keys := make(map[Key]bool)
	for _, one := range found {
		keys[one.key()] = true
	}
	for _, e := range t.all() {
		if match(e.key) {
			keys[e.key] = true
		}
	}
	limit := semaphore.NewWeighted(workers)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	for key := range keys {
		wait.Go(func() {
			err := limit.Acquire(ctx, 1)
			if err == nil {
				defer limit.Release(1)
				err = t.End(ctx, key)
			}
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, err)
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// end ends the session and forgets the key. After a failure the background work goes on, until the
// key is read again. The caller has the entry's lock.
func (t *Tokens) end(ctx context.Context, e *entry) error {
	sessions := e.sessions
	e.clear()
	err := t.endSessions(ctx, e.key, sessions)
	if err == nil {
		err = t.deleteRecord(ctx, e.key)
	}
	if err != nil {
		e.retryEnd()
		t.loop.Wake()
		return err
	}
	t.forget(e)
	return nil
}

// endSessions ends all sessions of the key; sessions is nil where it has not been used in this
// process. Without a configuration they cannot be ended in KSeF.
func (t *Tokens) endSessions(ctx context.Context, key Key, sessions *session.Manager) error {
	if sessions == nil {
		ksef, err := t.options.KSeF(ctx)
		if errors.As(err, new(*client.InputError)) {
			return nil
		}
		if err != nil {
			return err
		}
		sessions = t.manager(key, Login{KSeF: ksef})
	}
	return sessions.End(ctx, true)
}

// forget drops an entry from memory.
func (t *Tokens) forget(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgotten = true
	delete(t.entries, e.key)
}
