// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestIdleLimits reads the tokens of another context once, and nothing after that.
func TestIdleLimits(t *testing.T) {
	read := func(s *Cluster) {
		s.OnMount(0, func(m *Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": UnitID}))
			m.Must(m.Read("tokens", map[string]any{"internal_id": UnitID}))
		})
	}
	// Vault calls each mount once a minute.
	elapse := func(s *Cluster, minutes int) {
		for range minutes {
			s.Elapse(time.Minute)
			s.OnMount(0, func(m *Mount) {
				_, err := m.Request(logical.RollbackOperation, "", nil)
				require.NoError(s.T, err)
			})
		}
	}
	budgetEntries := func(s *Cluster) []string {
		keys, err := logical.CollectKeysWithPrefix(s.T.Context(), s.Disks[0], limiters.StoragePrefix)
		require.NoError(s.T, err)
		return keys
	}
	opened := func(s *Cluster) (count int) {
		s.OnMount(0, func(m *Mount) { count = len(m.Backend.limiters.Usage()) })
		return count
	}

	t.Run("go from storage and memory", func(t *testing.T) {
		InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
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
		InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
			read(s)
			s.engine.stop()
			s.Elapse(90 * time.Minute)
			s.engine.start()
			require.Equal(t, 1, opened(s))
			require.Empty(t, budgetEntries(s))
		})
	})

	t.Run("are opened by a start while they count", func(t *testing.T) {
		InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
			read(s)
			s.engine.stop()
			s.Elapse(30 * time.Minute)
			s.engine.start()
			require.Equal(t, 2, opened(s))
		})
	})
}
