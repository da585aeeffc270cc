// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// shards times rapid's number of checks (100 unless -rapid.checks says otherwise) is the number of
// runs.
const shards = 11

// TestModel plays scenarios that mix requests of users, operators and Vault with crashes and with
// failures of KSeF, the network and storage, over two mounts that share a taxpayer's context. At
// the end of each, the active tokens in KSeF are those with leases in Vault.
func TestModel(t *testing.T) {
	var runs, answered atomic.Int64
	SeedUnlessGiven(t)
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(t *rapid.T) {
					// One seed serves all shards: each plays other scenarios of it.
					for range shard {
						scenarios().Draw(t, "scenario of another shard")
					}
					drawn := scenarios().Draw(t, "scenario")
					rapid.SyncTest(t, func(t *rapid.T) { playAll(t, drawn, &answered) })
					runs.Add(1)
				})
			})
		}
	})
	t.Logf("%d runs, in which %d access tokens and static tokens were read", runs.Load(), answered.Load())
}

func playAll(t *rapid.T, drawn scenario, answered *atomic.Int64) {
	c := NewCluster(t, drawn.KSeF, 2)
	defer c.Close()
	r := &run{Cluster: c, tight: drawn.KSeF.Limits.Context.PerHour > 0, answered: answered}
	r.watchContexts()
	r.configureAll()
	if err := r.play(drawn.Steps); err != nil {
		t.Fatalf("%v", err)
	}
	r.users.Wait()
	c.RequireNoSecretInLogs()
}
