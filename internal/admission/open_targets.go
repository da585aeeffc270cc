// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package admission

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"

	"golang.org/x/sync/semaphore"
)

// openTargetsLast is how long one reading of the ledger counts.
const openTargetsLast = time.Minute

// OpenTargets remembers where a mount has open records.
type OpenTargets struct {
	read func(context.Context) (map[ledger.Target]struct{}, error)
	// reading allows one reading at a time.
	reading *semaphore.Weighted

	mu    sync.Mutex
	known map[ledger.Target]struct{}
	until time.Time
	// added are those of records made since the reading in progress began; nil without one.
	added map[ledger.Target]struct{}
}

// NewOpenTargets returns the targets that read finds.
func NewOpenTargets(read func(context.Context) (map[ledger.Target]struct{}, error)) *OpenTargets {
	return &OpenTargets{read: read, reading: semaphore.NewWeighted(1)}
}

// Has reads the ledger if it was not read within the last minute.
func (o *OpenTargets) Has(ctx context.Context, target ledger.Target) (bool, error) {
	if err := o.reading.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("waiting for the reading of the ledger: %w", err)
	}
	defer o.reading.Release(1)
	if open, fresh := o.recall(target); fresh {
		return open, nil
	}
	return o.readLedger(ctx, target)
}

func (o *OpenTargets) readLedger(ctx context.Context, target ledger.Target) (bool, error) {
	o.mu.Lock()
	o.added = make(map[ledger.Target]struct{})
	o.mu.Unlock()
	read, err := o.read(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	added := o.added
	o.added = nil
	if err != nil {
		return false, err
	}
	maps.Copy(read, added)
	o.known, o.until = read, time.Now().Add(openTargetsLast)
	_, open := read[target]
	return open, nil
}

func (o *OpenTargets) recall(target ledger.Target) (open, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, open = o.known[target]
	return open, time.Now().Before(o.until)
}

// Add remembers a record that was made since the last reading began.
func (o *OpenTargets) Add(target ledger.Target) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known != nil {
		o.known[target] = struct{}{}
	}
	if o.added != nil {
		o.added[target] = struct{}{}
	}
}
