// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// slowStorage delays some operations.
type slowStorage struct {
	logical.Storage
	// slow is how long an operation such as "put ledger/ending/" takes, whatever its context.
	slow func(operation string) time.Duration
}

func (d *slowStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if d.slow != nil {
		<-time.After(d.slow("put " + entry.Key))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.Storage.Put(ctx, entry)
}

// TestCleanAfterSlowStop stores the exact limits although the work in progress takes longer than
// the time for storing.
func TestCleanAfterSlowStop(t *testing.T) {
	InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
		disk := &slowStorage{Storage: &logical.InmemStorage{}}
		m := env.Mount(disk)
		m.Configure()
		issued := m.Issue()
		disk.slow = func(operation string) time.Duration {
			if strings.HasPrefix(operation, "put ledger/") {
				return 2 * (5 * time.Second)
			}
			return 0
		}
		go func() { _, _ = m.Delete("tokens/" + issued.Data["reference_number"].(string)) }()
		synctest.Wait()
		m.Stop()
		require.NotContains(t, m.Logs.String(), "the state of KSeF's request limits could not be stored")
		m.Start()
		defer m.Stop()
		require.Equal(t, 1, m.spentOnIssuing())
	})
}

func TestDeadRecord(t *testing.T) {
	t.Run("forced_revocation", testDeadRecordForcedRevocation)
	t.Run("deleted_by_hand", testDeadRecordDeletedByHand)
	t.Run("without_owner", testDeadRecordWithoutOwner)
}

// testDeadRecordForcedRevocation removes the record two days after the token, though its lease
// would last for weeks.
func testDeadRecordForcedRevocation(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("roles/long", map[string]any{"permissions": "InvoiceRead", "ttl": "480h", "max_ttl": "480h"}))
		secret := m.Lease(m.Must(m.Read("creds/long", nil)))
		m.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
		require.Error(t, m.Revoke(secret), "and by force the lease is gone")
		m.KSeF.ClearFaults()
		m.Elapse(24 * time.Hour)
		require.Empty(t, m.AliveTokens())
		require.Len(t, m.Keys("ledger/"), 1, "Vault may still ask")
		m.Elapse(26 * time.Hour)
		m.RequireEmptyLedger()
		require.NoError(t, m.Revoke(secret), "who asks later still is answered by KSeF")
	})
}

// testDeadRecordDeletedByHand keeps the record until two days after the end of the lease, whose
// revocation needs it.
func testDeadRecordDeletedByHand(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("roles/long", map[string]any{"permissions": "InvoiceRead", "ttl": "240h", "max_ttl": "240h"}))
		issued := m.Must(m.Read("creds/long", nil))
		m.Must(m.Delete("tokens/" + issued.Data["reference_number"].(string)))
		m.Must(m.Request(logical.DeleteOperation, "config", nil))
		m.Elapse(11 * 24 * time.Hour)
		require.Len(t, m.Keys("ledger/"), 1)
		m.Elapse(2 * 24 * time.Hour)
		m.RequireEmptyLedger()
	})
}

// testDeadRecordWithoutOwner keeps no record of a token without a lease.
func testDeadRecordWithoutOwner(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "240h", "max_ttl": "240h"}))
		m.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse})
		_, err := m.Read("creds/invoices", nil)
		require.Error(t, err)
		m.Elapse(time.Minute)
		require.Empty(t, m.AliveTokens())
		require.Equal(t, 1, m.Requests(RevokeEndpoint))
		m.RequireEmptyLedger()
	})
}
