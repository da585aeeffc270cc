// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestIdleLimits reads the tokens of another context once, and nothing after that.
func TestIdleLimits(t *testing.T) {
	read := func(s *cluster) {
		s.onMount(0, func(m *mount) {
			m.must(m.write("config", map[string]any{"allowed_contexts": unitContext}))
			m.must(m.read("tokens", map[string]any{"internal_id": unitContext}))
		})
	}
	// Vault calls each mount once a minute.
	elapse := func(s *cluster, minutes int) {
		for range minutes {
			s.elapse(time.Minute)
			s.onMount(0, func(m *mount) {
				_, err := m.request(logical.RollbackOperation, "", nil)
				require.NoError(s.t, err)
			})
		}
	}
	budgetEntries := func(s *cluster) []string {
		keys, err := logical.CollectKeysWithPrefix(s.t.Context(), s.disks[0], rateLimitPrefix)
		require.NoError(s.t, err)
		return keys
	}
	opened := func(s *cluster) (count int) {
		s.onMount(0, func(m *mount) { count = len(m.backend.limiters.usage()) })
		return count
	}

	t.Run("go from storage and memory", func(t *testing.T) {
		inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
			read(s)
			require.Equal(t, 3, opened(s), "config's context, the unit's, and that of logins")
			elapse(s, 90)
			require.NotEmpty(t, budgetEntries(s), "they have been empty for half an hour")
			elapse(s, 40)
			require.Empty(t, budgetEntries(s))
			require.Equal(t, 1, opened(s), "config's own context stays open")
			read(s)
			require.Equal(t, 3, opened(s))
			require.NotEmpty(t, budgetEntries(s))
		})
	})

	t.Run("are not opened by a start", func(t *testing.T) {
		inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
			read(s)
			s.engine.stop()
			s.elapse(90 * time.Minute)
			s.engine.start()
			require.Equal(t, 1, opened(s))
			require.Empty(t, budgetEntries(s))
		})
	})

	t.Run("are opened by a start while they count", func(t *testing.T) {
		inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
			read(s)
			s.engine.stop()
			s.elapse(30 * time.Minute)
			s.engine.start()
			require.Equal(t, 2, opened(s))
		})
	})
}
