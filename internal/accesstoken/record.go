// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/jsonentry"
)

// StoragePrefix is where the records of keys lie, which say when each was last read. A key has one
// before it has a session. They are no secret.
const StoragePrefix = "access-reads/"

// recordEvery is how often at most the time of a read is stored.
const recordEvery = time.Hour

const recordVersion = 1

// record is a key as it lies in storage.
type record struct {
	Version  int                      `json:"version"`
	Role     string                   `json:"role"`
	Static   bool                     `json:"static,omitempty"`
	Taxpayer client.ContextIdentifier `json:"context"`
	LastRead time.Time                `json:"last_read"`
}

func (r *record) key() Key { return Key{Role: r.Role, Static: r.Static, Taxpayer: r.Taxpayer} }

// folderOf is where the keys of a role lie, in whatever is stored of them. It has no character of
// the role's name, which may be any text.
func folderOf(role string, static bool) string {
	kind := "role "
	if static {
		kind = "static role "
	}
	sum := sha256.Sum256([]byte(kind + role))
	return hex.EncodeToString(sum[:8]) + "/"
}

func (k Key) folder() string { return folderOf(k.Role, k.Static) }

func (k Key) path() string { return k.folder() + k.Taxpayer.String() }

// record stores the time of the last read, where what storage has is older than an hour. It fails
// only where storage may not have the key at all.
func (t *Tokens) record(ctx context.Context, e *entry) error {
	read, recorded := e.reads()
	if !recorded.IsZero() && read.Sub(recorded) < recordEvery {
		return nil
	}
	err := jsonentry.Put(ctx, t.options.Storage, StoragePrefix+e.key.path(), record{
		Version: recordVersion, Role: e.key.Role, Static: e.key.Static, Taxpayer: e.key.Taxpayer, LastRead: read.UTC(),
	}, "when an access token was read")
	switch {
	case err == nil:
		e.setRecorded(read)
	case recorded.IsZero():
		return err
	default:
		t.options.Logger.Warn("the next start may end a session that is in use", "role", e.key.Role, "context", e.key.Taxpayer, "error", err)
	}
	return nil
}

// records returns the stored keys of all roles. Those that cannot be read are skipped: they are
// written anew when they are read.
func (t *Tokens) records(ctx context.Context) ([]record, error) {
	folders, err := t.options.Storage.List(ctx, StoragePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of access tokens: %w", err)
	}
	var all []record
	for _, folder := range folders {
		if !strings.HasSuffix(folder, "/") {
			continue
		}
		found, err := t.recordsOf(ctx, folder)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// recordsOf returns the stored keys of a role.
func (t *Tokens) recordsOf(ctx context.Context, folder string) ([]record, error) {
	names, err := t.options.Storage.List(ctx, StoragePrefix+folder)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of access tokens: %w", err)
	}
	var all []record
	for _, name := range names {
		found, err := t.readRecord(ctx, folder+name)
		if err != nil {
			t.options.Logger.Warn("the record of an access token cannot be read; the next read of the access token writes it anew",
				"entry", StoragePrefix+folder+name, "error", err)
			continue
		}
		if found != nil {
			all = append(all, *found)
		}
	}
	return all, nil
}

// readRecord returns nil for none, and for one that another version has written.
func (t *Tokens) readRecord(ctx context.Context, path string) (*record, error) {
	entry, err := t.options.Storage.Get(ctx, StoragePrefix+path)
	if err != nil || entry == nil {
		return nil, err //nolint:wrapcheck // the caller logs it with the entry's name
	}
	var found record
	if err := entry.DecodeJSON(&found); err != nil {
		return nil, err //nolint:wrapcheck // the same
	}
	if found.Version != recordVersion || found.key().path() != path {
		return nil, nil
	}
	return &found, nil
}

func (t *Tokens) deleteRecord(ctx context.Context, key Key) error {
	if err := t.options.Storage.Delete(ctx, StoragePrefix+key.path()); err != nil {
		return fmt.Errorf("deleting when an access token was read: %w", err)
	}
	return nil
}
