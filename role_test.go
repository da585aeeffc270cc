// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoleCache(t *testing.T) {
	t.Run("finds_a_role_by_its_whole_entry", func(t *testing.T) {
		var cache roleCache
		cache.add([]byte("stored"), role{Description: "a"})
		cached, found := cache.get([]byte("stored"))
		require.True(t, found)
		require.Equal(t, "a", cached.Description)
		_, found = cache.get([]byte("stored again"))
		require.False(t, found)
	})
	t.Run("is_bounded", func(t *testing.T) {
		var cache roleCache
		for i := range 3 * maxCachedRoles {
			cache.add([]byte(strconv.Itoa(i)), role{})
			require.LessOrEqual(t, len(cache.byStored), maxCachedRoles)
		}
	})
}
