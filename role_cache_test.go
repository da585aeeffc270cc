// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"strconv"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestRoleCache(t *testing.T) {
	t.Run("finds_a_role_until_it_changes", func(t *testing.T) {
		var cache roleCache[role]
		cache.add("roles/a", role{Description: "a"}, 0)
		cached, changes, found := cache.get("roles/a")
		require.True(t, found)
		require.Equal(t, "a", cached.Description)
		_, _, found = cache.get("roles/ab")
		require.False(t, found)
		cache.forget("roles/a")
		_, later, found := cache.get("roles/a")
		require.False(t, found)
		require.NotEqual(t, changes, later)
	})
	t.Run("keeps_no_role_that_was_read_before_a_change", func(t *testing.T) {
		var cache roleCache[role]
		_, changes, _ := cache.get("roles/a")
		cache.forget("roles/a")
		cache.add("roles/a", role{Description: "before"}, changes)
		_, _, found := cache.get("roles/a")
		require.False(t, found)
	})
	t.Run("is_bounded", func(t *testing.T) {
		var cache roleCache[role]
		for i := range 3 * maxCachedRoles {
			cache.add(strconv.Itoa(i), role{}, 0)
			require.LessOrEqual(t, len(cache.byKey), maxCachedRoles)
		}
	})
	t.Run("follows_what_is_written_even_where_the_write_fails", func(t *testing.T) {
		var changed []string
		storage := watchedStorage{&logical.InmemStorage{}, func(key string) { changed = append(changed, key) }}
		require.NoError(t, storage.Put(t.Context(), &logical.StorageEntry{Key: "roles/a"}))
		require.NoError(t, storage.Delete(t.Context(), "roles/a"))
		storage.Storage.(*logical.InmemStorage).Underlying().FailPut(true)
		require.Error(t, storage.Put(t.Context(), &logical.StorageEntry{Key: "roles/b"}))
		require.Equal(t, []string{"roles/a", "roles/a", "roles/b"}, changed)
	})
}
