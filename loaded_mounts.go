// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// loadedMounts are the mounts that a process serves. Their tokens are not left behind.
type loadedMounts struct {
	mu     sync.Mutex
	mounts map[*backend]struct{}
}

func newLoadedMounts() *loadedMounts {
	return &loadedMounts{mounts: make(map[*backend]struct{})}
}

func (l *loadedMounts) add(b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mounts[b] = struct{}{}
}

func (l *loadedMounts) remove(b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mounts, b)
}

// has says whether one of the mounts has the id. It fails where one does not know its own: that one
// may be it.
func (l *loadedMounts) has(ctx context.Context, id string) (bool, error) {
	l.mu.Lock()
	mounts := slices.Collect(maps.Keys(l.mounts))
	l.mu.Unlock()
	for _, mount := range mounts {
		known, err := mount.ledger.MountID(ctx)
		if err != nil {
			return false, fmt.Errorf("a mount of this process cannot tell its id, and may be the one: %w", err)
		}
		if known == id {
			return true, nil
		}
	}
	return false, nil
}
