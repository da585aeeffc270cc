// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestRevocationThatIsNotConfirmed has KSeF revoke a token, refuse to revoke it again, and lose
// every answer that would say why. That is an outage, and no answer about the token.
func TestRevocationThatIsNotConfirmed(t *testing.T) {
	const longestPause = 4 * time.Minute
	inCluster(t, simulator.Options{RevocationDelay: -1}, func(t *testing.T, s *cluster) {
		lease := s.mustIssue(time.Hour)
		s.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropReply})
		s.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultDropReply, Times: -1})
		s.vault().end(lease)
		s.elapse(40 * time.Minute)
		require.Empty(t, s.aliveTokens())
		revoking := func() (count int) {
			s.onMount(0, func(m *mount) { count = m.backend.ledger.Pending().Revoking })
			return count
		}
		require.Equal(t, 1, revoking())
		require.Greater(t, s.requests(revokeEndpoint), 5)
		s.ksef.ClearFaults()
		s.elapse(longestPause + time.Second)
		require.Zero(t, revoking())
		require.NoError(t, s.settle())
	})
}
