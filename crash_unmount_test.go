// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// unmountFlows are those of a mount that stops issuing while a token is being issued, and of one
// that is moved when its lease has been lost.
func unmountFlows() []flow {
	return []flow{{
		name:    "issue until an unmount",
		options: simulator.Options{ActivationDelay: 10 * time.Second},
		run: func(s *cluster) {
			var reader sync.WaitGroup
			reader.Go(func() { s.tryIssue() })
			s.elapse(500 * time.Millisecond)
			s.onMount(0, func(m *mount) { m.backend.endIssuing(context.Background()) })
			reader.Wait()
			s.onMount(0, func(m *mount) { m.backend.ledger.ResumeIssuing() })
			s.elapse(time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", issueEndpoint, "put ledger/live/*", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}, {
		name:   "move a mount that has lost its lease",
		mounts: 2,
		prepare: func(s *cluster) {
			moved := s.vaults[1]
			lease, err := moved.issue(context.Background(), "invoices", 240*time.Hour)
			require.NoError(s.t, err)
			moved.lose(lease)
		},
		run: func(s *cluster) {
			s.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropRequest})
			s.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultDropRequest})
			s.vaults[1].move(func() {})
			s.elapse(10 * time.Minute)
		},
		kinds: revoking(statusEndpoint, "put ledger/ending/*"),
		soon: func(s *cluster) error {
			if alive := len(s.aliveTokens()); alive != 1 {
				return fmt.Errorf("%d tokens live, and only that of the other mount has a lease", alive)
			}
			return nil
		},
	}}
}
