// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package background holds what work without a caller is made of: a sleep that ends with its
// context, and a context that outlives its caller.
package background

import (
	"context"
	"time"
)

// Sleep waits for d. It returns false where ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
