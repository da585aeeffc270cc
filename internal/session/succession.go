// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

// heirAfter is who has taken over where this manager has failed and has ended
// meanwhile; nil for nobody.
func (m *Manager) heirAfter(err error) *Manager {
	if err == nil || !m.ended.Load() {
		return nil
	}
	return m.heir.Load()
}

// HandOver ends the manager without ending its sessions: requests under way go
// on under those of its heir, which are of the same subject.
func (m *Manager) HandOver(heir *Manager) {
	m.heir.Store(heir)
	m.ended.Store(true)
}
