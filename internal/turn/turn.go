// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package turn lets one at a time do something that may take long: those who
// wait do so with their own contexts, which a mutex cannot offer.
package turn

import (
	"context"
	"fmt"
)

// Turn is held by one at a time. Make it with New.
type Turn struct {
	holder chan struct{}
	what   string
}

// New returns a turn that nobody holds. what ends the sentence "waiting for".
func New(what string) Turn { return Turn{holder: make(chan struct{}, 1), what: what} }

// Take waits for the turn. An error is that of ctx; then the turn is not held.
func (t Turn) Take(ctx context.Context) error {
	select {
	case t.holder <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s: %w", t.what, ctx.Err())
	}
}

// TryTake takes the turn if nobody holds it.
func (t Turn) TryTake() bool {
	select {
	case t.holder <- struct{}{}:
		return true
	default:
		return false
	}
}

// Release gives the turn to the next.
func (t Turn) Release() { <-t.holder }
