// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// rateLimitPrefix is where the state of KSeF's limits lies, so that a restart does not forget what
// was already sent.
const rateLimitPrefix = "budget/"

// authMaxWait is how long a request of a login waits for KSeF's limits.
const authMaxWait = 20 * time.Second

// limiters are the mount's limiters with KSeF's request limits, one per API and context.
type limiters struct {
	registry *ratelimit.Registry
	storage  logical.Storage
	// onUnreadable is called with each journal that cannot be read and is replaced.
	onUnreadable func(entry *logical.StorageEntry, err error)

	own     atomic.Pointer[string] // the API of config; nil until it has been read
	opening *semaphore.Weighted    // held while an limiter is opened or dropped
	mu      sync.Mutex
	closed  bool
	byKey   map[ratelimit.Key]*ratelimit.Limiter
}

func newLimiters(registry *ratelimit.Registry, storage logical.Storage) *limiters {
	return &limiters{
		registry: registry, storage: storage, byKey: make(map[ratelimit.Key]*ratelimit.Limiter),
		opening:      semaphore.NewWeighted(1),
		onUnreadable: func(*logical.StorageEntry, error) {},
	}
}

// limiter opens the limiter of a context at its first use, once.
func (b *limiters) limiter(ctx context.Context, key ratelimit.Key) (*ratelimit.Limiter, error) {
	if limiter := b.opened(key); limiter != nil {
		return limiter, nil
	}
	if err := b.opening.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the state of KSeF's request limits: %w", err)
	}
	defer b.opening.Release(1)
	if limiter := b.opened(key); limiter != nil {
		return limiter, nil
	}
	limiter, err := b.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading the state of KSeF's request limits: %w", err)
	}
	if !b.keep(key, limiter) {
		return nil, errors.Join(ratelimit.ErrClosed, limiter.Close(ctx))
	}
	return limiter, nil
}

// open closes an hour to a context whose journal cannot be read.
func (b *limiters) open(ctx context.Context, key ratelimit.Key) (*ratelimit.Limiter, error) {
	kept := journal{b.storage, journalKey(key)}
	limiter, err := b.registry.Open(ctx, key, kept)
	var unreadable *ratelimit.UnreadableError
	if !errors.As(err, &unreadable) {
		return limiter, err
	}
	b.onUnreadable(&logical.StorageEntry{Key: kept.key, Value: unreadable.Data}, unreadable)
	endpoints := contextEndpoints()
	if key.Context == "" {
		endpoints = append(loginEndpoints(), ratelimit.AllRequests)
	}
	return b.registry.OpenFull(ctx, key, kept, endpoints)
}

// keep is false once the mount has been unloaded.
func (b *limiters) keep(key ratelimit.Key, limiter *ratelimit.Limiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.byKey[key] = limiter
	}
	return !b.closed
}

// openStored opens the limiters of an API that the process before has used, so that other mounts
// which share their contexts know of those requests too. Those that have nothing to tell are
// deleted.
func (b *limiters) openStored(ctx context.Context, api string) error {
	folder := journalFolder(api)
	contexts, err := b.storage.List(ctx, folder)
	if err != nil {
		return fmt.Errorf("listing the state of KSeF's request limits: %w", err)
	}
	failures := make([]error, 0, len(contexts))
	for _, in := range contexts {
		key := ratelimit.Key{API: api, Context: in}
		if in == loginJournal {
			key.Context = ""
		}
		_, err := b.limiter(ctx, key)
		if err == nil {
			_, err = b.drop(ctx, key, 0)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (b *limiters) opened(key ratelimit.Key) *ratelimit.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byKey[key]
}

// usage returns the state of every limiter that is open.
func (b *limiters) usage() map[ratelimit.Key][]ratelimit.Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	usage := make(map[ratelimit.Key][]ratelimit.Usage, len(b.byKey))
	for key, limiter := range b.byKey {
		usage[key] = limiter.Usage()
	}
	return usage
}

func (b *limiters) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	byKey := b.byKey
	b.byKey = make(map[ratelimit.Key]*ratelimit.Limiter)
	b.mu.Unlock()
	failures := make([]error, 0, len(byKey))
	for _, limiter := range byKey {
		failures = append(failures, limiter.Close(ctx))
	}
	return errors.Join(failures...)
}

// journal keeps an limiter's state in the mount's storage.
type journal struct {
	storage logical.Storage
	key     string
}

// loginJournal stands for the requests of logins, which have no context.
const loginJournal = "login"

func journalFolder(api string) string {
	sum := sha256.Sum256([]byte(api))
	return rateLimitPrefix + hex.EncodeToString(sum[:8]) + "/"
}

func journalKey(key ratelimit.Key) string {
	if key.Context == "" {
		return journalFolder(key.API) + loginJournal
	}
	return journalFolder(key.API) + key.Context
}

func (j journal) Load(ctx context.Context) ([]byte, error) {
	entry, err := j.storage.Get(ctx, j.key)
	if err != nil || entry == nil {
		return nil, err
	}
	// An empty value may come as nil, which stands for no entry.
	return append([]byte{}, entry.Value...), nil
}

func (j journal) Save(ctx context.Context, data []byte) error {
	return j.storage.Put(ctx, &logical.StorageEntry{Key: j.key, Value: data})
}
