// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

// KeepWindows keeps the windows of the limiter's key in this process when the limiter is closed.
// It is for a limiter whose journal is about to be deleted: KSeF goes on to count what it has
// sent.
func (l *Limiter) KeepWindows() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool.unsaved = true
}
