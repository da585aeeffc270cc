// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// unmountFlows are those of a mount that stops issuing while a token is being issued.
func unmountFlows() []flow {
	return []flow{{
		name:    "issue until an unmount",
		options: simulator.Options{ActivationDelay: 10 * time.Second},
		run: func(s *scene) {
			var reader sync.WaitGroup
			reader.Go(func() { s.tryIssue() })
			s.elapse(500 * time.Millisecond)
			s.onMount(0, func(m *mount) { m.backend.endIssuing(context.Background()) })
			reader.Wait()
			s.onMount(0, func(m *mount) { m.backend.ledger.ResumeIssuing() })
			s.elapse(time.Minute)
		},
		kinds: revoking("put ledger/issuing/*", issueEndpoint, "put ledger/live/*", "put ledger/ending/*", "delete ledger/issuing/*", "delete ledger/ending/*"),
	}}
}
