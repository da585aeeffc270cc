// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestStorageFailure(t *testing.T) {
	t.Run("intent_not_written", testStorageFailureIntentNotWritten)
	t.Run("limits_not_written", testStorageFailureLimitsNotWritten)
	t.Run("record_not_written", testStorageFailureRecordNotWritten)
	t.Run("record_not_written_before_a_crash", testStorageFailureRecordNotWrittenBeforeACrash)
	t.Run("revocation_not_recorded", testStorageFailureRevocationNotRecorded)
	t.Run("renewal_not_recorded", testStorageFailureRenewalNotRecorded)
	t.Run("renewal_to_an_earlier_end_unconfirmed", testStorageFailureRenewalToAnEarlierEndUnconfirmed)
}

func testStorageFailureIntentNotWritten(t *testing.T) {
	for _, how := range []StorageFailure{StorageRefuses, StorageUnconfirmed} {
		t.Run(string(how), func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
				s.Disks[0].Fail(how, "put ledger/issuing/")
				_, err := s.Vault().Issue(context.Background(), "invoices", time.Hour)
				require.ErrorContains(t, err, "no token was asked for")
				s.Disks[0].Fail(StorageWorks, "")
				require.NoError(t, s.settle())
				require.Zero(t, s.Requests(IssueEndpoint))
			})
		})
	}
}

func testStorageFailureLimitsNotWritten(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
		s.Disks[0].Fail(StorageRefuses, "put budget/")
		_, err := s.Vault().Issue(context.Background(), "invoices", time.Hour)
		require.ErrorIs(t, err, errDisk)
		require.Zero(t, s.Requests(IssueEndpoint))
		require.NoError(t, s.settle())
	})
}

// testStorageFailureRecordNotWritten has storage fail from a point of the issue on, for ten
// minutes.
func testStorageFailureRecordNotWritten(t *testing.T) {
	for _, from := range []string{IssueEndpoint, "put ledger/live/*", "delete ledger/issuing/*"} {
		for _, how := range []StorageFailure{StorageRefuses, StorageUnconfirmed} {
			t.Run(string(how)+" from "+from, func(t *testing.T) {
				InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
					s.failFrom(from, how)
					_, err := s.Vault().Issue(context.Background(), "invoices", 240*time.Hour)
					require.ErrorContains(t, err, "it will be revoked")
					require.NoError(t, s.broken())
					s.Elapse(10 * time.Minute)
					s.Disks[0].Fail(StorageWorks, "")
					s.Elapse(10 * time.Minute)
					require.Equal(t, 1, s.Requests(IssueEndpoint))
					require.Empty(t, s.AliveTokens())
					require.NoError(t, s.settle())
				})
			})
		}
	}
}

// testStorageFailureRecordNotWrittenBeforeACrash is the same with KSeF out of reach and a
// death on top.
func testStorageFailureRecordNotWrittenBeforeACrash(t *testing.T) {
	for _, how := range []StorageFailure{StorageRefuses, StorageUnconfirmed} {
		t.Run(string(how), func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
				s.failFrom("put ledger/live/*", how)
				s.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
				_, err := s.Vault().Issue(context.Background(), "invoices", 240*time.Hour)
				require.ErrorContains(t, err, "it will be revoked")
				process, _ := s.Engine.current()
				process.end()
				s.Disks[0].Fail(StorageWorks, "")
				s.Elapse(10 * time.Minute)
				require.Len(t, s.AliveTokens(), 1)
				s.KSeF.ClearFaults()
				s.Elapse(10 * time.Minute)
				require.Empty(t, s.AliveTokens())
				require.NoError(t, s.settle())
			})
		})
	}
}

// failFrom has the first mount's storage fail from the first point of a kind on.
func (s *Cluster) failFrom(kind string, how StorageFailure) {
	process, _ := s.Engine.current()
	process.watch(func(here point) moment {
		if here == (point{kind, 1}) {
			s.Disks[0].Fail(how, "")
		}
		return lives
	})
}

func testStorageFailureRevocationNotRecorded(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
		lease := s.MustIssue(time.Hour)
		s.Network.Set(Refusing)
		s.Disks[0].Fail(StorageRefuses, "put ledger/ending/")
		s.Vault().End(lease)
		s.Elapse(20 * time.Second)
		require.Len(t, s.Vault().all(), 1)
		s.Network.Set(Reachable)
		s.Elapse(15 * time.Minute)
		require.Empty(t, s.AliveTokens())
		require.Empty(t, s.Vault().all())
	})
}

func testStorageFailureRenewalNotRecorded(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
		lease := s.MustIssue(5 * time.Hour)
		s.Disks[0].Fail(StorageRefuses, "put ledger/live/")
		require.Error(t, s.Vault().Renew(lease, 240*time.Hour))
		s.Disks[0].Fail(StorageWorks, "")
		s.Elapse(4 * time.Hour)
		require.Len(t, s.AliveTokens(), 1)
		s.Elapse(2 * time.Hour)
		require.Empty(t, s.AliveTokens())
		require.Empty(t, s.Vault().all())
	})
}

func testStorageFailureRenewalToAnEarlierEndUnconfirmed(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
		lease := s.MustIssue(10 * time.Hour)
		s.OnMount(0, func(m *Mount) {
			secret := *lease.secret
			m.Must(m.Renew(&secret, time.Hour))
		})
		s.Elapse(5 * time.Hour)
		require.NoError(t, s.broken())
		require.Len(t, s.AliveTokens(), 1)
	})
}
