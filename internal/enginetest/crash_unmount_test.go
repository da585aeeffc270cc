// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// unmountFlows move a mount while a token is being issued, and one that has lost a lease.
func unmountFlows() []flow {
	return []flow{{
		name:    "issue until an unmount",
		mounts:  2,
		options: simulator.Options{ActivationDelay: 10 * time.Second},
		run: func(c *Cluster) {
			moved := c.Vaults[1]
			var reader sync.WaitGroup
			reader.Go(func() { _, _ = moved.Issue(context.Background(), "invoices", time.Hour) })
			c.Elapse(500 * time.Millisecond)
			moved.move(func() {})
			reader.Wait()
			c.Elapse(time.Minute)
		},
		kinds: revoking("put mount-id", "put ledger/issuing/*", IssueEndpoint, "put ledger/live/*", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}, {
		name:   "move a mount that has lost its lease",
		mounts: 2,
		prepare: func(c *Cluster) {
			moved := c.Vaults[1]
			lease, err := moved.Issue(context.Background(), "invoices", 240*time.Hour)
			require.NoError(c.T, err)
			moved.Lose(lease)
		},
		run: func(c *Cluster) {
			c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest})
			c.Fault(simulator.Fault{Endpoint: StatusEndpoint, Kind: simulator.FaultDropRequest})
			c.Vaults[1].move(func() {})
			c.Elapse(10 * time.Minute)
		},
		kinds: revoking(StatusEndpoint, "put ledger/ending/*"),
		checkSoon: func(c *Cluster) error {
			if alive := len(c.AliveTokens()); alive != 1 {
				return fmt.Errorf("%d tokens live, and only that of the other mount has a lease", alive)
			}
			return nil
		},
	}}
}
