// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestNoTokenIsAskedForWhereTheIntentCannotBeWritten(t *testing.T) {
	for _, how := range []trouble{refused, unsaid} {
		t.Run(string(how), func(t *testing.T) {
			inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
				s.disks[0].fail(how, "put ledger/issuing/")
				_, err := s.vault().issue(context.Background(), "invoices", time.Hour)
				require.ErrorContains(t, err, "no token was asked for")
				s.disks[0].fail(none, "")
				require.NoError(t, s.settle())
				require.Zero(t, s.requests(issueEndpoint))
			})
		})
	}
}

func TestNoTokenIsAskedForWhereTheLimitsCannotBeWritten(t *testing.T) {
	inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
		s.disks[0].fail(refused, "put budget/")
		_, err := s.vault().issue(context.Background(), "invoices", time.Hour)
		require.ErrorIs(t, err, errDisk)
		require.Zero(t, s.requests(issueEndpoint))
		require.NoError(t, s.settle())
	})
}

// TestATokenThatCannotBeRecordedIsRevoked has storage fail from a point of the issue on, for ten
// minutes.
func TestATokenThatCannotBeRecordedIsRevoked(t *testing.T) {
	for _, from := range []string{issueEndpoint, "put ledger/live/*", "delete ledger/issuing/*"} {
		for _, how := range []trouble{refused, unsaid} {
			t.Run(string(how)+" from "+from, func(t *testing.T) {
				inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
					s.failFrom(from, how)
					_, err := s.vault().issue(context.Background(), "invoices", 240*time.Hour)
					require.ErrorContains(t, err, "it will be revoked")
					require.NoError(t, s.broken())
					s.elapse(10 * time.Minute)
					s.disks[0].fail(none, "")
					s.elapse(10 * time.Minute)
					require.Equal(t, 1, s.requests(issueEndpoint))
					require.Empty(t, s.aliveTokens())
					require.NoError(t, s.settle())
				})
			})
		}
	}
}

// TestATokenThatCannotBeRecordedIsRevokedByTheNextProcess is the same with KSeF out of reach and a
// death on top.
func TestATokenThatCannotBeRecordedIsRevokedByTheNextProcess(t *testing.T) {
	for _, how := range []trouble{refused, unsaid} {
		t.Run(string(how), func(t *testing.T) {
			inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
				s.failFrom("put ledger/live/*", how)
				s.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
				_, err := s.vault().issue(context.Background(), "invoices", 240*time.Hour)
				require.ErrorContains(t, err, "it will be revoked")
				process, _ := s.engine.current()
				process.end()
				s.disks[0].fail(none, "")
				s.elapse(10 * time.Minute)
				require.Len(t, s.aliveTokens(), 1)
				s.ksef.ClearFaults()
				s.elapse(10 * time.Minute)
				require.Empty(t, s.aliveTokens())
				require.NoError(t, s.settle())
			})
		})
	}
}

// failFrom has the first mount's storage fail from the first point of a kind on.
func (s *cluster) failFrom(kind string, how trouble) {
	process, _ := s.engine.current()
	process.watch(func(here point) moment {
		if here == (point{kind, 1}) {
			s.disks[0].fail(how, "")
		}
		return lives
	})
}

func TestARevocationThatCannotBeRecordedGoesOn(t *testing.T) {
	inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
		lease := s.mustIssue(time.Hour)
		s.network.set(refusing)
		s.disks[0].fail(refused, "put ledger/ending/")
		s.vault().end(lease)
		s.elapse(20 * time.Second)
		require.Len(t, s.vault().all(), 1)
		s.network.set(reachable)
		s.elapse(15 * time.Minute)
		require.Empty(t, s.aliveTokens())
		require.Empty(t, s.vault().all())
	})
}

func TestARenewalThatCannotBeRecordedLeavesTheLeaseAsItWas(t *testing.T) {
	inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
		lease := s.mustIssue(5 * time.Hour)
		s.disks[0].fail(refused, "put ledger/live/")
		require.Error(t, s.vault().renew(lease, 240*time.Hour))
		s.disks[0].fail(none, "")
		s.elapse(4 * time.Hour)
		require.Len(t, s.aliveTokens(), 1)
		s.elapse(2 * time.Hour)
		require.Empty(t, s.aliveTokens())
		require.Empty(t, s.vault().all())
	})
}

func TestARenewalToACloserEndKillsNoTokenWhereItsAnswerIsLost(t *testing.T) {
	inCluster(t, simulator.Options{}, func(t *testing.T, s *cluster) {
		lease := s.mustIssue(10 * time.Hour)
		s.onMount(0, func(m *mount) {
			secret := *lease.secret
			m.must(m.renew(&secret, time.Hour))
		})
		s.elapse(5 * time.Hour)
		require.NoError(t, s.broken())
		require.Len(t, s.aliveTokens(), 1)
	})
}
