// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/accesstoken"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestMemory(t *testing.T) {
	const taxpayers, most = 1000, 32 << 20
	inBubble(t, unlimited, func(t *testing.T, f *fixture) {
		used := func() int64 {
			tokens := accesstoken.New(f.options())
			tokens.Start()
			for n := range taxpayers {
				f.read(tokens, keyOf("invoices", n))
			}
			elapse(5 * time.Minute)
			tokens.Stop()
			defer runtime.KeepAlive(tokens)
			return heap()
		}()
		used -= heap()
		t.Logf("%d taxpayers: %d KiB", taxpayers, used>>10)
		require.LessOrEqual(t, used, int64(most))
	})
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// countedStorage counts the accesses to storage.
type countedStorage struct {
	logical.Storage
	mu   sync.Mutex
	seen []string
}

func (c *countedStorage) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, what)
}

func (c *countedStorage) count(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	for _, one := range c.seen {
		if strings.HasPrefix(one, prefix) {
			count++
		}
	}
	return count
}

func (c *countedStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	c.note("get " + key)
	return c.Storage.Get(ctx, key)
}

func (c *countedStorage) List(ctx context.Context, prefix string) ([]string, error) {
	c.note("list " + prefix)
	return c.Storage.List(ctx, prefix)
}

func (c *countedStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	c.note("put " + entry.Key)
	return c.Storage.Put(ctx, entry)
}
