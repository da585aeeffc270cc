// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// countingStorage counts reads. One entry may fail, and one may be undecryptable until it is
// replaced or deleted.
type countingStorage struct {
	logical.Storage
	reads         atomic.Int64
	failing       atomic.Value
	undecryptable atomic.Value
}

func (d *countingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	d.reads.Add(1)
	if d.failing.Load() == key {
		return nil, errStorage
	}
	if d.undecryptable.Load() == key {
		return nil, errUndecryptable
	}
	return d.Storage.Get(ctx, key)
}

func (d *countingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	d.undecryptable.CompareAndSwap(entry.Key, "")
	return d.Storage.Put(ctx, entry)
}

func (d *countingStorage) Delete(ctx context.Context, key string) error {
	d.undecryptable.CompareAndSwap(key, "")
	return d.Storage.Delete(ctx, key)
}

// TestDamagedEntryCost damages one of 500 records whose next check has come.
func TestDamagedEntryCost(t *testing.T) {
	inManyRecords(t, func(m *Mount, key string, _ *countingStorage) { m.Put(key, []byte(`{"version":2}`)) }, 1100, func(m *Mount, key string) {
		m.requireUnreadable(key)
	})
}

// TestDamagedEntryFailingCost has storage fail at one of them.
func TestDamagedEntryFailingCost(t *testing.T) {
	inManyRecords(t, func(_ *Mount, key string, disk *countingStorage) { disk.failing.Store(key) }, 3500, func(*Mount, string) {})
}

// inManyRecords damages one of 500 records, none of which is overdue, and bounds the reads of the
// half hour in which they are checked.
func inManyRecords(t *testing.T, damage func(m *Mount, key string, disk *countingStorage), most int64, check func(m *Mount, key string)) {
	t.Helper()
	InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
		disk := &countingStorage{Storage: &logical.InmemStorage{}}
		m := env.Mount(disk)
		m.Configure()
		m.Issue()
		key := firstKey("ledger/live/")(m, nil)
		m.Stop()
		m.multiply(key, 500)
		damage(m, key, disk)
		m.Start()
		defer m.Stop()
		m.Elapse(3 * time.Hour)
		before := disk.reads.Load()
		m.Elapse(30 * time.Minute)
		disk.failing.Store("")
		require.Less(t, disk.reads.Load()-before, most, "reads in half an hour")
		check(m, key)
	})
}

// multiply copies a live record, for leases that end in ten days.
func (m *Mount) multiply(key string, count int) {
	entry, err := m.Storage.Get(m.Ctx, key)
	require.NoError(m.T, err)
	var record map[string]any
	require.NoError(m.T, json.Unmarshal(entry.Value, &record))
	record["deadline"] = time.Now().Add(240 * time.Hour).UTC().Format(time.RFC3339)
	number := record["reference_number"].(string)
	for i := range count {
		copied := number[:len(number)-5] + fmt.Sprintf("%05X", i)
		record["reference_number"] = copied
		encoded, err := json.Marshal(record)
		require.NoError(m.T, err)
		m.Put(strings.TrimSuffix(key, number)+copied, encoded)
	}
}
