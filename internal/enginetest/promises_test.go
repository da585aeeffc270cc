// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/internal/unleased"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// broken returns a promise that holds at every moment and is broken; nil for none.
func (c *Cluster) broken() error {
	synctest.Wait() // no request is in progress
	loaded := c.AliveTokens()
	return errors.Join(c.tokenWithoutRecord(loaded), c.leaseWithoutToken(loaded), c.touchedForeign(), c.limitExceeded())
}

// tokenWithoutRecord finds an active token without a record that leads to it.
func (c *Cluster) tokenWithoutRecord(loaded []simulator.TokenState) error {
	open, err := c.openRecords()
	if err != nil {
		return err
	}
	for _, token := range loaded {
		if open[token.ReferenceNumber] == nil && open[nonceOf(token)] == nil && !isForeign(token) {
			return fmt.Errorf("the token %s is %s, and no open record leads to it", token.ReferenceNumber, token.Status)
		}
	}
	return nil
}

// leaseWithoutToken finds a lease in force whose token is not active although no one has deleted
// it, and a lease that ended before its token.
func (c *Cluster) leaseWithoutToken(loaded []simulator.TokenState) error {
	alive := make(map[string]bool)
	for _, token := range loaded {
		alive[token.ReferenceNumber] = true
	}
	for _, v := range c.Vaults {
		if err := v.leaseEndedEarly(); err != nil {
			return err
		}
		for _, lease := range v.all() {
			if v.isLive(lease) && !v.isTainted() && !lease.deletedByHand && !alive[lease.number] && c.StatusInKSeF(lease.number) != "Failed" {
				return fmt.Errorf("the token %s is %s under a living lease", lease.number, c.StatusInKSeF(lease.number))
			}
		}
	}
	return nil
}

// limitExceeded finds a 429 that neither a test has asked for nor a request of others can have
// caused, and a request before the end of a Retry-After.
func (c *Cluster) limitExceeded() error {
	for endpoint, counts := range c.KSeF.State().Requests {
		if counts["429"] > c.foreign.sentTo(endpoint) {
			return fmt.Errorf("KSeF has refused %s for its limits %d times", endpoint, counts["429"])
		}
	}
	c.Network.mu.Lock()
	defer c.Network.mu.Unlock()
	return c.Network.violation
}

// unsettled returns what is still open and should have ended; nil for nothing. Tokens without a
// lease may be alive that their roles hold, or that were handed back. Tokens whose lease Vault
// never got may live until the end in their record, if they are no more than the requests that were
// cut off.
func (c *Cluster) unsettled(cutOff int) error {
	if err := c.broken(); err != nil {
		return err
	}
	open, err := c.openRecords()
	if err != nil {
		return err
	}
	leased := make(map[string]bool)
	for _, v := range c.Vaults {
		for _, lease := range v.all() {
			if !v.isLive(lease) {
				return fmt.Errorf("the lease of %s has ended at %s and is still there", lease.number, v.expiry(lease))
			}
			leased[lease.number] = true
		}
	}
	wanted, err := c.wanted(open)
	if err != nil {
		return err
	}
	alive := make(map[string]bool)
	for _, token := range c.AliveTokens() {
		alive[token.ReferenceNumber] = true
		record := open[token.ReferenceNumber]
		if leased[token.ReferenceNumber] || wanted[token.ReferenceNumber] || (record == nil && isForeign(token)) {
			continue
		}
		cutOff--
		if record == nil || record.Unleased() || record.State != ledger.Live || isOverdue(record) || cutOff < 0 {
			return fmt.Errorf("the token %s is %s without a lease", token.ReferenceNumber, token.Status)
		}
	}
	for _, record := range open {
		if record.Unleased() && wanted[record.ReferenceNumber] {
			continue
		}
		if record.State != ledger.Live || (!alive[record.ReferenceNumber] && !leased[record.ReferenceNumber] && isOverdue(record)) {
			return fmt.Errorf("the record of %q is still open as %s", record.ReferenceNumber, record.State)
		}
	}
	return nil
}

// leftovers returns what remains when all leases have ended long ago, and all roles that keep
// tokens were deleted. Tokens that were made by hand and those that were handed back stay.
func (c *Cluster) leftovers() error {
	open, err := c.openRecords()
	if err != nil {
		return err
	}
	loaded := slices.DeleteFunc(c.AliveTokens(), func(token simulator.TokenState) bool {
		record := open[token.ReferenceNumber]
		return (record == nil && isForeign(token)) || (record != nil && record.State == ledger.Released)
	})
	if leases := c.leases(); len(leases)+len(loaded) > 0 {
		return fmt.Errorf("%d leases and %d tokens are left at the end", len(leases), len(loaded))
	}
	for _, flaky := range c.Storages {
		for _, folder := range append(foldersOfHolders(), ledger.StoragePrefix, "visits/") {
			keys, err := logical.CollectKeysWithPrefix(context.Background(), flaky.Storage, folder)
			keys = slices.DeleteFunc(keys, func(key string) bool {
				record := open[strings.TrimPrefix(key, "ledger/unleased/live/")]
				return record != nil && record.State == ledger.Released
			})
			if err != nil || len(keys) > 0 {
				return errors.Join(err, fmt.Errorf("storage keeps %v at the end", keys))
			}
		}
	}
	return nil
}

// foldersOfHolders are where tokens lie that have no lease, and what is made with them.
func foldersOfHolders() []string {
	return []string{unleased.StoragePrefix, ledger.TextPrefix, accesstoken.StoragePrefix, session.AccessPrefix, session.UnstoredAccessPrefix}
}

// isOverdue reports whether the reconciler should have revoked the token, with its grace of an hour
// and time for KSeF's limits.
func isOverdue(record *ledger.Record) bool { return time.Since(record.Deadline) > 3*time.Hour }

// openRecords reads the ledgers of all mounts, by reference number, or by nonce where there is none
// yet.
func (c *Cluster) openRecords() (map[string]*ledger.Record, error) {
	open := make(map[string]*ledger.Record)
	for _, flaky := range c.Storages {
		if err := addOpenRecords(open, flaky.Storage); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// errMoved is returned when a record was moved or removed between the list and its read.
var errMoved = errors.New("a record is no longer where it was listed")

// addOpenRecords reads one ledger. If a record moves in between, it reads all again.
func addOpenRecords(open map[string]*ledger.Record, storage logical.Storage) error {
	records, err := readRecords(storage)
	for errors.Is(err, errMoved) {
		records, err = readRecords(storage)
	}
	for _, record := range records {
		switch record.State {
		case ledger.Issuing:
			open[record.Nonce] = record
		case ledger.Live, ledger.Revoking, ledger.Released:
			open[record.ReferenceNumber] = record
		case ledger.Dead:
			delete(open, record.ReferenceNumber)
		}
	}
	return err
}

// readRecords returns a record that is stored twice in its later state last.
func readRecords(storage logical.Storage) ([]*ledger.Record, error) {
	ctx := context.Background()
	keys, err := logical.CollectKeysWithPrefix(ctx, storage, ledger.StoragePrefix)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(b, a) })
	records := make([]*ledger.Record, 0, len(keys))
	for _, key := range keys {
		entry, err := storage.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if entry == nil {
			return nil, errMoved
		}
		var record ledger.Record
		if err := json.Unmarshal(entry.Value, &record); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		records = append(records, &record)
	}
	return records, nil
}

// movingStorage moves a record at its first read.
type movingStorage struct {
	logical.Storage
	from, to string
}

func (m *movingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if key != m.from {
		return m.Storage.Get(ctx, key)
	}
	m.from = ""
	entry, err := m.Storage.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	entry.Key = m.to
	return nil, errors.Join(m.Put(ctx, entry), m.Delete(ctx, key))
}

func TestOpenRecords(t *testing.T) {
	storage := &movingStorage{&logical.InmemStorage{}, ledger.StoragePrefix + "live/1", ledger.StoragePrefix + "revoking/1"}
	entry, err := logical.StorageEntryJSON(storage.from, ledger.Record{State: ledger.Live, ReferenceNumber: "1"})
	require.NoError(t, err)
	require.NoError(t, storage.Put(t.Context(), entry))
	open := make(map[string]*ledger.Record)
	require.NoError(t, addOpenRecords(open, storage))
	require.Contains(t, open, "1")
}

// nonceOf is the nonce in a token's mark.
func nonceOf(token simulator.TokenState) string {
	at := strings.LastIndex(token.Description, ":")
	return strings.TrimSuffix(token.Description[at+1:], "]")
}
