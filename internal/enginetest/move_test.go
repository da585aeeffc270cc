// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestMoveRevokesLostLeases moves a mount whose leases were lost in a crash. Nothing delays the
// move, and nothing asks for the revocation after it.
func TestMoveRevokesLostLeases(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.IssueMany(3)
		u.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
		u.View.tainted.Store(true)
		u.rollback()
		u.View.tainted.Store(false)
		u.Stop()
		u.Start()
		u.KSeF.ClearFaults()
		u.Elapse(10 * time.Minute)
		require.Empty(t, u.AliveTokens(), "the next process goes on with what the last one has begun")
	})
}
