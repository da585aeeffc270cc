// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package admission

import (
	"context"
	"fmt"
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
	read, err := o.read(ctx)
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
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

// Add remembers a record that was made after the last reading.
func (o *OpenTargets) Add(target ledger.Target) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known != nil {
		o.known[target] = struct{}{}
	}
}
