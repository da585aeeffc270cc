// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package limiters holds a mount's requests to KSeF within KSeF's limits, of which the mount's
// storage keeps the state.
package limiters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// StoragePrefix is where the state of KSeF's limits lies, so that a restart does not forget what
// was already sent.
const StoragePrefix = "budget/"

// Set is the mount's limiters: one per API and taxpayer, and one per API for what KSeF counts per
// source address. It is safe for concurrent use.
type Set struct {
	registry     *ratelimit.Registry
	storage      logical.Storage
	onUnreadable func(entry *logical.StorageEntry, err error)

	own     atomic.Pointer[string] // the API of config; nil until it has been read
	opening *semaphore.Weighted    // held while a limiter is opened or dropped
	mu      sync.Mutex
	closed  bool
	byKey   map[ratelimit.Key]*ratelimit.Limiter
}

// New returns a set without any open limiter. onUnreadable is called with each journal that cannot
// be read and is replaced.
func New(registry *ratelimit.Registry, storage logical.Storage, onUnreadable func(*logical.StorageEntry, error)) *Set {
	return &Set{
		registry: registry, storage: storage, onUnreadable: onUnreadable,
		opening: semaphore.NewWeighted(1), byKey: make(map[ratelimit.Key]*ratelimit.Limiter),
	}
}

// keyOf returns the key of a taxpayer's requests; the zero taxpayer stands for logins, which KSeF
// counts per source address.
func keyOf(api string, taxpayer client.ContextIdentifier) ratelimit.Key {
	if taxpayer.IsZero() {
		return ratelimit.Key{API: api}
	}
	return ratelimit.Key{API: api, Context: taxpayer.String()}
}

// limiter opens the limiter of a key at its first use, once.
func (s *Set) limiter(ctx context.Context, key ratelimit.Key) (*ratelimit.Limiter, error) {
	if limiter := s.opened(key); limiter != nil {
		return limiter, nil
	}
	if err := s.opening.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the state of KSeF's request limits: %w", err)
	}
	defer s.opening.Release(1)
	if limiter := s.opened(key); limiter != nil {
		return limiter, nil
	}
	limiter, err := s.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading the state of KSeF's request limits: %w", err)
	}
	if !s.keep(key, limiter) {
		return nil, errors.Join(ratelimit.ErrClosed, limiter.Close(ctx))
	}
	return limiter, nil
}

// open takes all limits of a key for used up whose journal cannot be read.
func (s *Set) open(ctx context.Context, key ratelimit.Key) (*ratelimit.Limiter, error) {
	kept := journal{s.storage, journalKey(key)}
	limiter, err := s.registry.Open(ctx, key, kept)
	unreadable, found := errors.AsType[*ratelimit.UnreadableError](err)
	if !found {
		return limiter, err
	}
	s.onUnreadable(&logical.StorageEntry{Key: kept.key, Value: unreadable.Data}, unreadable)
	endpoints := contextEndpoints()
	if key.Context == "" {
		endpoints = append(loginEndpoints(), ratelimit.AllRequests)
	}
	return s.registry.OpenFull(ctx, key, kept, endpoints)
}

// keep returns false once the set is closed.
func (s *Set) keep(key ratelimit.Key, limiter *ratelimit.Limiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.byKey[key] = limiter
	}
	return !s.closed
}

// OpenStored opens the limiters of an API that the process before has used, so that other mounts
// which share their taxpayers know of those requests too. Journals without any request that still
// counts are deleted.
func (s *Set) OpenStored(ctx context.Context, api string) error {
	prefix := journalPrefix(api)
	contexts, err := s.storage.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("listing the state of KSeF's request limits: %w", err)
	}
	failures := make([]error, 0, len(contexts))
	for _, in := range contexts {
		key := ratelimit.Key{API: api, Context: in}
		if in == loginJournal {
			key.Context = ""
		}
		_, err := s.limiter(ctx, key)
		if err == nil {
			_, err = s.drop(ctx, key, 0)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (s *Set) opened(key ratelimit.Key) *ratelimit.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byKey[key]
}

// NextPermit returns when a request with so many others before it could go.
func (s *Set) NextPermit(api string, taxpayer client.ContextIdentifier, endpoint string, ahead int) time.Time {
	next := time.Now()
	limiter := s.opened(keyOf(api, taxpayer))
	if limiter == nil {
		return next
	}
	next = limiter.NextPermit(endpoint, ahead)
	if address := s.opened(ratelimit.Key{API: api}); address != nil {
		if overall := address.NextPermit(ratelimit.AllRequests, ahead); overall.After(next) {
			return overall
		}
	}
	return next
}

// Usage returns the state of every limiter that is open.
func (s *Set) Usage() map[ratelimit.Key][]ratelimit.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	usage := make(map[ratelimit.Key][]ratelimit.Usage, len(s.byKey))
	for key, limiter := range s.byKey {
		usage[key] = limiter.Usage()
	}
	return usage
}

// KeepWindows keeps what was sent in this process, for the next mount of the same taxpayers.
func (s *Set) KeepWindows() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, limiter := range s.byKey {
		limiter.KeepWindows()
	}
}

// Close writes the state of all limiters. None is opened any more.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	byKey := s.byKey
	s.byKey = make(map[ratelimit.Key]*ratelimit.Limiter)
	s.mu.Unlock()
	failures := make([]error, 0, len(byKey))
	for _, limiter := range byKey {
		failures = append(failures, limiter.Close(ctx))
	}
	return errors.Join(failures...)
}

// journal keeps a limiter's state in the mount's storage.
type journal struct {
	storage logical.Storage
	key     string
}

// loginJournal stands for the requests of logins, which have no context.
const loginJournal = "login"

func journalPrefix(api string) string {
	sum := sha256.Sum256([]byte(api))
	return StoragePrefix + hex.EncodeToString(sum[:8]) + "/"
}

func journalKey(key ratelimit.Key) string {
	if key.Context == "" {
		return journalPrefix(key.API) + loginJournal
	}
	return journalPrefix(key.API) + key.Context
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
