// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"vault-plugin-secrets-ksef/internal/unreadable"

	"github.com/hashicorp/vault/sdk/logical"
)

// maxCachedRoles bounds the memory of a cache.
const maxCachedRoles = 1000

// roleCache keeps roles as they were decoded, by their storage key. Each read of storage crosses to
// Vault's process and back, which costs as much as all else that a read of creds does. Roles are
// written by this process only, whose storage calls forget, or by another node, of which Vault
// tells.
type roleCache[R any] struct {
	mu      sync.Mutex
	byKey   map[string]R
	changes int
}

// get returns the role with a key. What is read from storage after it is added with its changes.
func (c *roleCache[R]) get(key string) (cached R, changes int, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cached, found = c.byKey[key]
	return cached, c.changes, found
}

// add keeps a role, unless any has changed since get.
func (c *roleCache[R]) add(key string, decoded R, changes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != changes {
		return
	}
	if c.byKey == nil || len(c.byKey) >= maxCachedRoles {
		c.byKey = make(map[string]R)
	}
	c.byKey[key] = decoded
}

var errUnreadableRole = errors.New("cannot be read; write it anew, with all its fields, or delete it")

// read returns the role with a key, from storage where the cache does not have it. It returns nil
// where there is none, and errUnreadableRole, after onUnreadable, where it is damaged: that is one
// that cannot be decoded or that complete returns false for. what names the role in errors.
func (c *roleCache[R]) read(
	ctx context.Context, storage logical.Storage, key, what string, complete func(*R) bool, onUnreadable func(*logical.StorageEntry, error),
) (*R, error) {
	stored, changes, cached := c.get(key)
	if cached {
		return &stored, nil
	}
	entry, err := storage.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if entry == nil {
		return nil, nil
	}
	if err := entry.DecodeJSON(&stored); err != nil || !complete(&stored) {
		unreadable := fmt.Errorf("%s %w", what, errUnreadableRole)
		if err != nil {
			unreadable = fmt.Errorf("%w (%w)", unreadable, err)
		}
		onUnreadable(entry, unreadable)
		return nil, unreadable
	}
	c.add(key, stored, changes)
	return &stored, nil
}

// forget drops what the cache has under a key that is written.
func (c *roleCache[R]) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byKey, key)
	c.changes++
}

// storageOf returns the mount's storage as its parts use it; nil for nil.
func (b *backend) storageOf(storage logical.Storage) logical.Storage {
	if storage == nil {
		return nil
	}
	return watchedStorage{unreadable.Storage(storage), b.forgetRole}
}

// forgetRole has a role read from storage again, of whichever kind it is.
func (b *backend) forgetRole(key string) {
	switch {
	case strings.HasPrefix(key, rolesPrefix):
		b.roles.forget(key)
	case strings.HasPrefix(key, staticRolesPrefix):
		b.staticRoles.forget(key)
	}
}

// watchedStorage calls changed after each write, a failed one included: it may have been done.
type watchedStorage struct {
	logical.Storage
	changed func(key string)
}

// Put implements logical.Storage.
func (s watchedStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	defer s.changed(entry.Key)
	return s.Storage.Put(ctx, entry)
}

// Delete implements logical.Storage.
func (s watchedStorage) Delete(ctx context.Context, key string) error {
	defer s.changed(key)
	return s.Storage.Delete(ctx, key)
}
