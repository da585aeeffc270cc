// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// undecryptable is how Vault's barrier reports an entry that was changed below it. Between Vault
// and the plugin only the text of an error is left.
const undecryptable = "decryption failed: cipher: message authentication failed"

// readableStorage gives an entry that Vault cannot decrypt as an empty one, which is unreadable
// everywhere: its error would come at each reading for ever, unlike that of a storage in trouble,
// and what an unreadable entry hurts is only itself.
type readableStorage struct{ logical.Storage }

// readable is nil for a request that has no storage.
func readable(storage logical.Storage) logical.Storage {
	if storage == nil {
		return nil
	}
	return readableStorage{storage}
}

// Get implements logical.Storage.
func (s readableStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	entry, err := s.Storage.Get(ctx, key)
	if err != nil && strings.Contains(err.Error(), undecryptable) {
		return &logical.StorageEntry{Key: key, Value: []byte{}}, nil
	}
	return entry, err
}
