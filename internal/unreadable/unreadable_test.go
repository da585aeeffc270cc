// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unreadable_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"vault-plugin-secrets-ksef/internal/unreadable"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func entry(key, value string) *logical.StorageEntry {
	return &logical.StorageEntry{Key: key, Value: []byte(value)}
}

func TestEntries(t *testing.T) {
	storage := &logical.InmemStorage{}
	entries := unreadable.New(storage)
	damaged := []*logical.StorageEntry{entry("b", "damaged"), entry("a", "damaged"), entry("c", "damaged")}
	for _, one := range damaged {
		require.NoError(t, storage.Put(t.Context(), one))
		require.True(t, entries.Add(one))
		require.False(t, entries.Add(one), "it is known")
	}
	require.NoError(t, storage.Put(t.Context(), entry("a", "mended")))
	require.NoError(t, storage.Delete(t.Context(), "c"))
	keys, err := entries.Keys(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, keys)
	require.True(t, entries.Add(entry("b", "damaged again")))
	require.True(t, entries.Add(entry("a", "damaged")), "it was mended since")
}

func TestEntriesAreBounded(t *testing.T) {
	entries := unreadable.New(&logical.InmemStorage{})
	for i := range 1000 {
		require.True(t, entries.Add(entry(fmt.Sprint(i), "damaged")))
	}
	require.False(t, entries.Add(entry("one more", "damaged")))
	require.True(t, entries.Add(entry("0", "changed")))
}

// failing is a storage whose reads fail.
type failing struct {
	logical.Storage
	err error
}

func (s failing) Get(context.Context, string) (*logical.StorageEntry, error) { return nil, s.err }

func TestStorage(t *testing.T) {
	t.Run("an undecryptable entry is empty", func(t *testing.T) {
		found, err := unreadable.Storage(failing{err: errors.New("rpc error: " + unreadable.Undecryptable)}).Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, entry("a", ""), found)
	})
	t.Run("other errors stay", func(t *testing.T) {
		broken := errors.New("the disk is away")
		_, err := unreadable.Storage(failing{err: broken}).Get(t.Context(), "a")
		require.ErrorIs(t, err, broken)
		_, err = unreadable.New(failing{err: broken}).Keys(t.Context())
		require.NoError(t, err, "nothing is unreadable")
	})
	t.Run("a request without a storage has none", func(t *testing.T) {
		require.Nil(t, unreadable.Storage(nil))
	})
}
