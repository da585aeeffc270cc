// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestMoveRevokesWhatHasNoLease is of tokens whose leases were lost in a crash. Nothing holds the
// move back, and after it nobody tells the engine again that they must die.
func TestMoveRevokesWhatHasNoLease(t *testing.T) {
	withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
		u.issueMany(3)
		u.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
		u.view.tainted.Store(true)
		u.rollback()
		u.view.tainted.Store(false)
		u.stop()
		u.start()
		u.ksef.ClearFaults()
		u.elapse(10 * time.Minute)
		require.Empty(t, u.aliveTokens(), "the next process goes on with what the last one has begun")
	})
}
