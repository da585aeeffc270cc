// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

// Contexts counts those in memory.
func (m *Manager) Contexts() int { return len(m.entries()) }
