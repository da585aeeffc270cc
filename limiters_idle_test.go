// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestIdleLimits reads the tokens of another context once, and nothing after that.
func TestIdleLimits(t *testing.T) {
	read := func(s *enginetest.Cluster) {
		s.OnMount(0, func(m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": enginetest.UnitID}))
			m.Must(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID}))
		})
	}
	// Vault calls each mount once a minute.
	elapse := func(s *enginetest.Cluster, minutes int) {
		for range minutes {
			s.Elapse(time.Minute)
			s.OnMount(0, func(m *enginetest.Mount) {
				_, err := m.Request(logical.RollbackOperation, "", nil)
				require.NoError(s.T, err)
			})
		}
	}
	budgetEntries := func(s *enginetest.Cluster) []string {
		keys, err := logical.CollectKeysWithPrefix(s.T.Context(), s.Disks[0], limiters.StoragePrefix)
		require.NoError(s.T, err)
		return keys
	}
	opened := func(s *enginetest.Cluster) (count int) {
		s.OnMount(0, func(m *enginetest.Mount) { count = ksef.OpenLimiters(m.Backend) })
		return count
	}

	t.Run("go from storage and memory", func(t *testing.T) {
		enginetest.InCluster(t, simulator.Options{}, func(t *testing.T, s *enginetest.Cluster) {
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
		enginetest.InCluster(t, simulator.Options{}, func(t *testing.T, s *enginetest.Cluster) {
			read(s)
			s.Engine.Stop()
			s.Elapse(90 * time.Minute)
			s.Engine.Start()
			require.Equal(t, 1, opened(s))
			require.Empty(t, budgetEntries(s))
		})
	})

	t.Run("are opened by a start while they count", func(t *testing.T) {
		enginetest.InCluster(t, simulator.Options{}, func(t *testing.T, s *enginetest.Cluster) {
			read(s)
			s.Engine.Stop()
			s.Elapse(30 * time.Minute)
			s.Engine.Start()
			require.Equal(t, 2, opened(s))
		})
	})
}
