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
	read := func(c *enginetest.Cluster) {
		c.OnMount(0, func(m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": enginetest.UnitID}))
			m.Must(m.Read("tokens", map[string]any{"internal_id": enginetest.UnitID}))
		})
	}
	// Vault calls each mount once a minute.
	elapse := func(c *enginetest.Cluster, minutes int) {
		for range minutes {
			c.Elapse(time.Minute)
			c.OnMount(0, func(m *enginetest.Mount) {
				_, err := m.Request(logical.RollbackOperation, "", nil)
				require.NoError(c.T, err)
			})
		}
	}
	journalEntries := func(c *enginetest.Cluster) []string {
		keys, err := logical.CollectKeysWithPrefix(c.T.Context(), c.Storages[0], limiters.StoragePrefix)
		require.NoError(c.T, err)
		return keys
	}
	opened := func(c *enginetest.Cluster) (count int) {
		c.OnMount(0, func(m *enginetest.Mount) { count = ksef.OpenLimiters(m.Backend) })
		return count
	}

	t.Run("go from storage and memory", func(t *testing.T) {
		enginetest.InCluster(t, simulator.Options{}, func(t *testing.T, c *enginetest.Cluster) {
			read(c)
			require.Equal(t, 3, opened(c), "config's context, the unit's, and that of logins")
			elapse(c, 90)
			require.NotEmpty(t, journalEntries(c), "they have been empty for half an hour")
			elapse(c, 40)
			require.Empty(t, journalEntries(c))
			require.Equal(t, 1, opened(c), "config's own context stays open")
			read(c)
			require.Equal(t, 3, opened(c))
			require.NotEmpty(t, journalEntries(c))
		})
	})

	t.Run("are not opened by a start", func(t *testing.T) {
		enginetest.InCluster(t, simulator.Options{}, func(t *testing.T, c *enginetest.Cluster) {
			read(c)
			c.Engine.Stop()
			c.Elapse(90 * time.Minute)
			c.Engine.Start()
			require.Equal(t, 1, opened(c))
			require.Empty(t, journalEntries(c))
		})
	})

	t.Run("are opened by a start while they count", func(t *testing.T) {
		enginetest.InCluster(t, simulator.Options{}, func(t *testing.T, c *enginetest.Cluster) {
			read(c)
			c.Engine.Stop()
			c.Elapse(30 * time.Minute)
			c.Engine.Start()
			require.Equal(t, 2, opened(c))
		})
	})
}
