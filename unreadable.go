// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	// maxUnreadable bounds the unreadable entries that are remembered, maxUnreadableShown those
	// that status names.
	maxUnreadable      = 1000
	maxUnreadableShown = 20
)

// unreadable remembers which storage entries could not be read, for status.
type unreadable struct {
	storage logical.Storage

	mu      sync.Mutex
	entries map[string][sha256.Size]byte // the digest of what could not be read, by key
}

func newUnreadable(storage logical.Storage) *unreadable {
	return &unreadable{storage: storage, entries: make(map[string][sha256.Size]byte)}
}

// add remembers an entry. It returns false for one that is known already.
func (u *unreadable) add(entry *logical.StorageEntry) bool {
	digest := sha256.Sum256(entry.Value)
	u.mu.Lock()
	defer u.mu.Unlock()
	before, known := u.entries[entry.Key]
	if (known && before == digest) || (!known && len(u.entries) >= maxUnreadable) {
		return false
	}
	u.entries[entry.Key] = digest
	return true
}

// keys returns the keys of the entries that are still as they were when they could not be read.
func (u *unreadable) keys(ctx context.Context) ([]string, error) {
	u.mu.Lock()
	noted := make(map[string][sha256.Size]byte, len(u.entries))
	for key, digest := range u.entries {
		noted[key] = digest
	}
	u.mu.Unlock()
	keys := make([]string, 0, len(noted))
	for key, digest := range noted {
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

func (u *unreadable) forget(key string, digest [sha256.Size]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.entries[key] == digest {
		delete(u.entries, key)
	}
}

// onUnreadable logs an entry once. Its value stays out of the log.
func (b *backend) onUnreadable(entry *logical.StorageEntry, err error) {
	if b.unreadable.add(entry) {
		b.Logger().Error("a storage entry cannot be read and is skipped", "key", entry.Key, "error", err)
	}
}

// addUnreadable shows in status which entries are skipped.
func (b *backend) addUnreadable(ctx context.Context, report *statusReport) error {
	keys, err := b.unreadable.keys(ctx)
	if err != nil {
		return err
	}
	count, shown := len(keys), keys[:min(len(keys), maxUnreadableShown)]
	report.flat["unreadable_entries"] = count
	report.details["unreadable"] = map[string]any{"count": count, "keys": shown}
	if count == 0 {
		return nil
	}
	more := ""
	if count > len(shown) {
		more = fmt.Sprintf(" and %d more", count-len(shown))
	}
	noun := "storage entries"
	if count == 1 {
		noun = "storage entry"
	}
	report.warn(troubleUnreadable, "Storage entries cannot be read and are skipped: find out who wrote them, and delete or write anew those that the warning names.",
		fmt.Sprintf("%d %s that cannot be read, and skipped: %s%s.%s", count, noun, strings.Join(shown, ", "), more, unreadableRemedies(shown)))
	return nil
}

// unreadableRemedies says what to do with each kind of entry among keys, by the first of its kind.
func unreadableRemedies(keys []string) string {
	kinds := []struct{ prefix, remedy string }{
		{ledger.StoragePrefix + "live/", " The token of a live record is revoked with: vault delete <mount>/tokens/%s"},
		{ledger.StoragePrefix + "ending/", " The token of an ending record is revoked with: vault delete <mount>/tokens/%s"},
		{rolesPrefix, " Write the role anew with all its fields, or: vault delete <mount>/roles/%s"},
		{rotation.StorageKey, " The rotation is given up with: vault write <mount>/config force=rotation"},
	}
	var all strings.Builder
	for _, kind := range kinds {
		i := slices.IndexFunc(keys, func(key string) bool { return strings.HasPrefix(key, kind.prefix) })
		if i < 0 {
			continue
		}
		remedy := kind.remedy
		if strings.Contains(remedy, "%s") {
			remedy = fmt.Sprintf(remedy, path.Base(keys[i]))
		}
		all.WriteString(remedy)
	}
	return all.String()
}
