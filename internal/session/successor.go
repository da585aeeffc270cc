// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

// successor is who has taken over where this manager has failed and has ended meanwhile; nil for
// nobody.
func (m *Manager) successor(err error) *Manager {
	if err == nil || !m.ended.Load() {
		return nil
	}
	return m.replacedBy.Load()
}

// ReplaceWith ends the manager without ending its sessions: requests in progress go on under those
// of its successor, which are of the same subject.
func (m *Manager) ReplaceWith(successor *Manager) {
	m.replacedBy.Store(successor)
	m.ended.Store(true)
}
