// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package unreadable keeps storage entries that cannot be read from stopping anything but
// themselves.
package unreadable

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// maxEntries bounds the entries that are remembered.
const maxEntries = 1000

// Entries are the storage entries that could not be read. They are safe for concurrent use.
type Entries struct {
	storage logical.Storage

	mu      sync.Mutex
	entries map[string][sha256.Size]byte // digests of the values, by key
}

// New returns an empty set for the entries of storage.
func New(storage logical.Storage) *Entries {
	return &Entries{storage: storage, entries: make(map[string][sha256.Size]byte)}
}

// Add remembers an entry. It returns false if the entry is known already.
func (u *Entries) Add(entry *logical.StorageEntry) bool {
	digest := sha256.Sum256(entry.Value)
	u.mu.Lock()
	defer u.mu.Unlock()
	before, known := u.entries[entry.Key]
	if (known && before == digest) || (!known && len(u.entries) >= maxEntries) {
		return false
	}
	u.entries[entry.Key] = digest
	return true
}

// Keys returns the keys of the entries that have not changed since they could not be read.
func (u *Entries) Keys(ctx context.Context) ([]string, error) {
	u.mu.Lock()
	entries := maps.Clone(u.entries)
	u.mu.Unlock()
	keys := make([]string, 0, len(entries))
	for key, digest := range entries {
		entry, err := u.storage.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("looking for the unreadable %s: %w", key, err)
		}
		if entry != nil && sha256.Sum256(entry.Value) == digest {
			keys = append(keys, key)
			continue
		}
		u.forget(key, digest)
	}
	slices.Sort(keys)
	return keys, nil
}

func (u *Entries) forget(key string, digest [sha256.Size]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.entries[key] == digest {
		delete(u.entries, key)
	}
}

// Undecryptable is the error of Vault's barrier for an entry that was changed below it. The plugin
// gets nothing but its text.
const Undecryptable = "decryption failed: cipher: message authentication failed"

// tolerant returns an entry that Vault cannot decrypt as an empty one, which is unreadable
// everywhere. Unlike an error of the storage, this one would come back for ever, and affects that
// entry alone.
type tolerant struct{ logical.Storage }

// Storage returns storage with undecryptable entries as empty ones; nil for nil.
func Storage(storage logical.Storage) logical.Storage {
	if storage == nil {
		return nil
	}
	return tolerant{storage}
}

// Get implements logical.Storage.
func (s tolerant) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	entry, err := s.Storage.Get(ctx, key)
	if err != nil && strings.Contains(err.Error(), Undecryptable) {
		return &logical.StorageEntry{Key: key, Value: []byte{}}, nil
	}
	return entry, err
}
