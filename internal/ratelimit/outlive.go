// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

// OutliveJournal keeps the windows of the limiter's key in this process when the limiter is closed.
// It is for an limiter whose journal is about to be deleted: KSeF goes on to count what it has
// sent.
func (a *Limiter) OutliveJournal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pool.unsaved = true
}
