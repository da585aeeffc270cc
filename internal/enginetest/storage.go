// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"strings"
	"sync"

	"vault-plugin-secrets-ksef/internal/unreadable"

	"github.com/hashicorp/vault/sdk/logical"
)

// StorageFailure is how operations of a storage fail.
type StorageFailure string

const (
	// StorageWorks is no failure.
	StorageWorks StorageFailure = ""
	// StorageRefuses does nothing and returns an error.
	StorageRefuses StorageFailure = "refuses"
	// StorageUnconfirmed does what it is asked and returns an error.
	StorageUnconfirmed StorageFailure = "unconfirmed"
)

var errStorage = errors.New("the storage has failed")

// errUndecryptable is how Vault's barrier reports an entry that was changed below it.
var errUndecryptable = errors.New(unreadable.Undecryptable)

// FlakyStorage is a storage whose operations can be made to fail.
type FlakyStorage struct {
	logical.Storage
	// beforePut is called before each entry is written; nil for nothing.
	beforePut func(entry *logical.StorageEntry)

	mu      sync.Mutex
	failure StorageFailure
	which   string
}

// Fail makes the operations fail that begin with which, such as "put ledger/live/" or "delete ". ""
// stands for all writes, "read" for all reads.
func (d *FlakyStorage) Fail(how StorageFailure, which string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure, d.which = how, which
}

// repairReads lets reads succeed: a Vault that cannot read its storage does not unseal and loads no
// mount.
func (d *FlakyStorage) repairReads() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.which == "read" {
		d.failure, d.which = StorageWorks, ""
	}
}

// Put implements logical.Storage.
func (d *FlakyStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return d.write("put "+entry.Key, func() error {
		if d.beforePut != nil {
			d.beforePut(entry)
		}
		return d.Storage.Put(ctx, entry)
	})
}

// Delete implements logical.Storage.
func (d *FlakyStorage) Delete(ctx context.Context, key string) error {
	return d.write("delete "+key, func() error { return d.Storage.Delete(ctx, key) })
}

// Get implements logical.Storage.
func (d *FlakyStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if how, which := d.state(); how != StorageWorks && which == "read" {
		return nil, errStorage
	}
	return d.Storage.Get(ctx, key)
}

// List implements logical.Storage.
func (d *FlakyStorage) List(ctx context.Context, prefix string) ([]string, error) {
	if how, which := d.state(); how != StorageWorks && which == "read" {
		return nil, errStorage
	}
	return d.Storage.List(ctx, prefix)
}

func (d *FlakyStorage) state() (how StorageFailure, which string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure, d.which
}

func (d *FlakyStorage) write(what string, do func() error) error {
	how, which := d.state()
	if !strings.HasPrefix(what, which) {
		return do()
	}
	switch how {
	case StorageRefuses:
		return errStorage
	case StorageUnconfirmed:
		return errors.Join(do(), errStorage)
	}
	return do()
}
