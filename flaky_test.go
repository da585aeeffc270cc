// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// trouble is what a storage does instead of what it is asked.
type trouble string

const (
	none    trouble = ""
	refused trouble = "refused" // nothing
	unsaid  trouble = "unsaid"  // it does it, and answers with an error all the same
)

var errDisk = errors.New("the storage has failed")

// flakyDisk is a storage in which operations fail, as it is told.
type flakyDisk struct {
	logical.Storage
	// beforePut is called before each entry that is written; nil is allowed.
	beforePut func(entry *logical.StorageEntry)

	mu      sync.Mutex
	trouble trouble
	which   string
}

// fail gives trouble to all operations that begin so, such as "put ledger/live/" or "delete "; ""
// is all that write, "read" all that read.
func (d *flakyDisk) fail(how trouble, which string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble, d.which = how, which
}

// mendReads lets reads succeed: a Vault that cannot read its storage does not unseal, and so loads
// no mount.
func (d *flakyDisk) mendReads() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.which == "read" {
		d.trouble, d.which = none, ""
	}
}

func (d *flakyDisk) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return d.write("put "+entry.Key, func() error {
		if d.beforePut != nil {
			d.beforePut(entry)
		}
		return d.Storage.Put(ctx, entry)
	})
}

func (d *flakyDisk) Delete(ctx context.Context, key string) error {
	return d.write("delete "+key, func() error { return d.Storage.Delete(ctx, key) })
}

func (d *flakyDisk) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if how, which := d.state(); how != none && which == "read" {
		return nil, errDisk
	}
	return d.Storage.Get(ctx, key)
}

func (d *flakyDisk) List(ctx context.Context, prefix string) ([]string, error) {
	if how, which := d.state(); how != none && which == "read" {
		return nil, errDisk
	}
	return d.Storage.List(ctx, prefix)
}

func (d *flakyDisk) state() (how trouble, which string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble, d.which
}

func (d *flakyDisk) write(what string, do func() error) error {
	how, which := d.state()
	if !strings.HasPrefix(what, which) {
		return do()
	}
	switch how {
	case refused:
		return errDisk
	case unsaid:
		return errors.Join(do(), errDisk)
	}
	return do()
}
