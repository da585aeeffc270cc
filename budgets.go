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

	"vault-plugin-secrets-ksef/internal/budget"
	"vault-plugin-secrets-ksef/internal/turn"

	"github.com/hashicorp/vault/sdk/logical"
)

// budgetPrefix is where the state of KSeF's limits lies, so that a restart does
// not forget what was already sent.
const budgetPrefix = "budget/"

// authPatience is how long a request of a login waits for KSeF's limits.
const authPatience = 20 * time.Second

// budgets are the mount's accounts with KSeF's request limits, one per API and
// context.
type budgets struct {
	registry *budget.Registry
	storage  logical.Storage
	// onUnreadable is called with each journal that cannot be read and is replaced.
	onUnreadable func(entry *logical.StorageEntry, err error)

	own      atomic.Pointer[string] // the API of config; nil until it has been read
	opening  turn.Turn              // held while an account is opened or dropped
	mu       sync.Mutex
	closed   bool
	accounts map[budget.Key]*budget.Account
}

func newBudgets(registry *budget.Registry, storage logical.Storage) *budgets {
	return &budgets{
		registry: registry, storage: storage, accounts: make(map[budget.Key]*budget.Account),
		opening:      turn.New("the state of KSeF's request limits"),
		onUnreadable: func(*logical.StorageEntry, error) {},
	}
}

// account opens the account of a context at its first use, once.
func (b *budgets) account(ctx context.Context, key budget.Key) (*budget.Account, error) {
	if account := b.opened(key); account != nil {
		return account, nil
	}
	if err := b.opening.Take(ctx); err != nil {
		return nil, err
	}
	defer b.opening.Release()
	if account := b.opened(key); account != nil {
		return account, nil
	}
	account, err := b.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading the state of KSeF's request limits: %w", err)
	}
	if !b.keep(key, account) {
		return nil, errors.Join(budget.ErrClosed, account.Close(ctx))
	}
	return account, nil
}

// open closes an hour to a context whose journal cannot be read.
func (b *budgets) open(ctx context.Context, key budget.Key) (*budget.Account, error) {
	kept := journal{b.storage, journalKey(key)}
	account, err := b.registry.Open(ctx, key, kept)
	var unreadable *budget.UnreadableError
	if !errors.As(err, &unreadable) {
		return account, err
	}
	b.onUnreadable(&logical.StorageEntry{Key: kept.key, Value: unreadable.Data}, unreadable)
	endpoints := contextEndpoints()
	if key.Context == "" {
		endpoints = append(loginEndpoints(), budget.AllRequests)
	}
	return b.registry.OpenFull(ctx, key, kept, endpoints)
}

// keep is false once the mount has been unloaded.
func (b *budgets) keep(key budget.Key, account *budget.Account) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.accounts[key] = account
	}
	return !b.closed
}

// openStored opens the accounts of an API that the process before has used, so
// that other mounts which share their contexts know of those requests too. Those
// that have nothing to tell are deleted.
func (b *budgets) openStored(ctx context.Context, api string) error {
	folder := journalFolder(api)
	contexts, err := b.storage.List(ctx, folder)
	if err != nil {
		return fmt.Errorf("listing the state of KSeF's request limits: %w", err)
	}
	failures := make([]error, 0, len(contexts))
	for _, in := range contexts {
		key := budget.Key{API: api, Context: in}
		if in == loginJournal {
			key.Context = ""
		}
		_, err := b.account(ctx, key)
		if err == nil {
			_, err = b.drop(ctx, key, 0)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (b *budgets) opened(key budget.Key) *budget.Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accounts[key]
}

// usage returns the state of every account that is open.
func (b *budgets) usage() map[budget.Key][]budget.Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	usage := make(map[budget.Key][]budget.Usage, len(b.accounts))
	for key, account := range b.accounts {
		usage[key] = account.Usage()
	}
	return usage
}

func (b *budgets) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	accounts := b.accounts
	b.accounts = make(map[budget.Key]*budget.Account)
	b.mu.Unlock()
	failures := make([]error, 0, len(accounts))
	for _, account := range accounts {
		failures = append(failures, account.Close(ctx))
	}
	return errors.Join(failures...)
}

// journal keeps an account's state in the mount's storage.
type journal struct {
	storage logical.Storage
	key     string
}

// loginJournal stands for the requests of logins, which have no context.
const loginJournal = "login"

func journalFolder(api string) string {
	sum := sha256.Sum256([]byte(api))
	return budgetPrefix + hex.EncodeToString(sum[:8]) + "/"
}

func journalKey(key budget.Key) string {
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
