// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import "time"

// idleAfter is how long a context without a session stays in memory after its last use.
const idleAfter = time.Hour

// DropIdle takes contexts out of memory that have no session and that nobody has used for an hour.
// Storage keeps what it has of them.
func (m *Manager) DropIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for taxpayer, s := range m.contexts {
		if time.Since(s.used) < idleAfter || s.isAlive() || !s.lock.TryAcquire(1) {
			continue
		}
		delete(m.contexts, taxpayer)
		s.lock.Release(1)
	}
}

func (s *entry) isAlive() bool {
	session := s.get()
	return session != nil && time.Now().Before(session.Refresh.ValidUntil)
}
