// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestRevocationUnconfirmed has KSeF revoke a token, refuse to revoke it again, and lose every
// response that would say why. That is an outage, not a statement about the token.
func TestRevocationUnconfirmed(t *testing.T) {
	const longestPause = 4 * time.Minute
	InCluster(t, simulator.Options{RevocationDelay: -1}, func(t *testing.T, c *Cluster) {
		lease := c.MustIssue(time.Hour)
		c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropResponse})
		c.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultDropResponse, Times: -1})
		c.Vault().End(lease)
		c.Elapse(40 * time.Minute)
		require.Empty(t, c.AliveTokens())
		revoking := func() (count any) {
			c.OnMount(0, func(m *Mount) { count = m.Status()["tokens_revoking"] })
			return count
		}
		require.Equal(t, 1, revoking())
		require.Greater(t, c.Requests(RevokeEndpoint), 5)
		c.KSeF.ClearFaults()
		c.Elapse(longestPause + time.Second)
		require.Zero(t, revoking())
		require.NoError(t, c.settle())
	})
}
