// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestLimitsGlobal(t *testing.T) {
	t.Run("is kept to while two mounts issue and restart", func(t *testing.T) {
		global := simulator.Limits{Global: simulator.Windows{PerSecond: 20, PerMinute: 50, PerHour: 120}}
		InClusterOf(t, 2, simulator.Options{Limits: global}, func(t *testing.T, c *Cluster) {
			for i := range 60 {
				_, _ = c.Vaults[i%2].Issue(t.Context(), "invoices", time.Hour)
				c.Elapse(2 * time.Second)
				if i == 30 {
					c.restart()
				}
			}
			require.GreaterOrEqual(t, len(c.AliveTokens()), 40)
			c.Elapse(6 * time.Hour)
			require.Empty(t, c.AliveTokens())
			require.NoError(t, c.limitExceeded())
		})
	})
}
