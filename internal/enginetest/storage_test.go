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
			InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
				c.Storages[0].Fail(how, "put ledger/issuing/")
				_, err := c.Vault().Issue(context.Background(), "invoices", time.Hour)
				require.ErrorContains(t, err, "no token was asked for")
				c.Storages[0].Fail(StorageWorks, "")
				require.NoError(t, c.settle())
				require.Zero(t, c.Requests(IssueEndpoint))
			})
		})
	}
}

func testStorageFailureLimitsNotWritten(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		c.Storages[0].Fail(StorageRefuses, "put budget/")
		_, err := c.Vault().Issue(context.Background(), "invoices", time.Hour)
		require.ErrorIs(t, err, errStorage)
		require.Zero(t, c.Requests(IssueEndpoint))
		require.NoError(t, c.settle())
	})
}

// testStorageFailureRecordNotWritten makes storage fail for ten minutes, from a point of the issue
// on.
func testStorageFailureRecordNotWritten(t *testing.T) {
	for _, from := range []string{IssueEndpoint, "put ledger/live/*", "delete ledger/issuing/*"} {
		for _, how := range []StorageFailure{StorageRefuses, StorageUnconfirmed} {
			t.Run(string(how)+" from "+from, func(t *testing.T) {
				InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
					c.failFrom(from, how)
					_, err := c.Vault().Issue(context.Background(), "invoices", 240*time.Hour)
					require.ErrorContains(t, err, "it will be revoked")
					require.NoError(t, c.broken())
					c.Elapse(10 * time.Minute)
					c.Storages[0].Fail(StorageWorks, "")
					c.Elapse(10 * time.Minute)
					require.Equal(t, 1, c.Requests(IssueEndpoint))
					require.Empty(t, c.AliveTokens())
					require.NoError(t, c.settle())
				})
			})
		}
	}
}

// testStorageFailureRecordNotWrittenBeforeACrash adds an outage of KSeF and a crash.
func testStorageFailureRecordNotWrittenBeforeACrash(t *testing.T) {
	for _, how := range []StorageFailure{StorageRefuses, StorageUnconfirmed} {
		t.Run(string(how), func(t *testing.T) {
			InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
				c.failFrom("put ledger/live/*", how)
				c.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
				_, err := c.Vault().Issue(context.Background(), "invoices", 240*time.Hour)
				require.ErrorContains(t, err, "it will be revoked")
				process, _ := c.Engine.current()
				process.end()
				c.Storages[0].Fail(StorageWorks, "")
				c.Elapse(10 * time.Minute)
				require.Len(t, c.AliveTokens(), 1)
				c.KSeF.ClearFaults()
				c.Elapse(10 * time.Minute)
				require.Empty(t, c.AliveTokens())
				require.NoError(t, c.settle())
			})
		})
	}
}

// failFrom makes the first mount's storage fail from the first point of a kind on.
func (c *Cluster) failFrom(kind string, how StorageFailure) {
	process, _ := c.Engine.current()
	process.watch(func(here point) moment {
		if here == (point{kind, 1}) {
			c.Storages[0].Fail(how, "")
		}
		return noCrash
	})
}

func testStorageFailureRevocationNotRecorded(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		lease := c.MustIssue(time.Hour)
		c.Network.Set(Refusing)
		c.Storages[0].Fail(StorageRefuses, "put ledger/ending/")
		c.Vault().End(lease)
		c.Elapse(20 * time.Second)
		require.Len(t, c.Vault().all(), 1)
		c.Network.Set(Reachable)
		c.Elapse(15 * time.Minute)
		require.Empty(t, c.AliveTokens())
		require.Empty(t, c.Vault().all())
	})
}

func testStorageFailureRenewalNotRecorded(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		lease := c.MustIssue(5 * time.Hour)
		c.Storages[0].Fail(StorageRefuses, "put ledger/live/")
		require.Error(t, c.Vault().Renew(lease, 240*time.Hour))
		c.Storages[0].Fail(StorageWorks, "")
		c.Elapse(4 * time.Hour)
		require.Len(t, c.AliveTokens(), 1)
		c.Elapse(2 * time.Hour)
		require.Empty(t, c.AliveTokens())
		require.Empty(t, c.Vault().all())
	})
}

func testStorageFailureRenewalToAnEarlierEndUnconfirmed(t *testing.T) {
	InCluster(t, simulator.Options{}, func(t *testing.T, c *Cluster) {
		lease := c.MustIssue(10 * time.Hour)
		c.OnMount(0, func(m *Mount) {
			secret := *lease.secret
			m.Must(m.Renew(&secret, time.Hour))
		})
		c.Elapse(5 * time.Hour)
		require.NoError(t, c.broken())
		require.Len(t, c.AliveTokens(), 1)
	})
}
