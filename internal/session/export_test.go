// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"

	"vault-plugin-secrets-ksef/client"
)

// Access returns an access token of a usable session.
func (m *Manager) Access(ctx context.Context, taxpayer client.ContextIdentifier) (client.Secret, error) {
	session, err := m.usable(ctx, taxpayer)
	if err != nil {
		return "", err
	}
	return session.Access.Token, nil
}

// Contexts counts those in memory.
func (m *Manager) Contexts() int { return len(m.entries()) }
