// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/rights"
)

// roleRightsWarnings says what KSeF will refuse of a role's tokens.
func (b *backend) roleRightsWarnings(ctx context.Context, name string, written *role) []string {
	ctx, cancel := context.WithTimeout(ctx, rights.MaxWait)
	defer cancel()
	current, err := b.connect(ctx)
	if err != nil {
		return nil // without a usable configuration there is no signer
	}
	taxpayer := written.Context
	if taxpayer.IsZero() {
		taxpayer = current.config.Context
	}
	return b.rightsWarnings(ctx, current, taxpayer, func() []rights.Role { return []rights.Role{{Name: name, Permissions: written.Permissions}} })
}

// rightsWarnings says what KSeF will refuse to the signer of the roles' tokens.
func (b *backend) rightsWarnings(ctx context.Context, current *connection, taxpayer client.ContextIdentifier, roles func() []rights.Role) []string {
	warnings, err := current.rights.Warnings(ctx, taxpayer, roles)
	if err != nil {
		b.Logger().Debug("KSeF did not tell the signer's rights", "context", taxpayer, "error", err)
	}
	return warnings
}

// rolesIn returns the roles whose tokens are a taxpayer's; byDefault is that of config. Unreadable
// roles are left out: a warning is no proof.
func (b *backend) rolesIn(ctx context.Context, taxpayer, byDefault client.ContextIdentifier) []rights.Role {
	names, err := b.storage.List(ctx, rolesPrefix)
	if err != nil {
		b.Logger().Warn("the roles could not be compared with the signer's rights", "error", err)
	}
	var found []rights.Role
	for _, name := range names {
		stored, err := b.readRole(ctx, b.storage, name)
		if err != nil || stored == nil {
			continue
		}
		if stored.Context == taxpayer || (stored.Context.IsZero() && taxpayer == byDefault) {
			found = append(found, rights.Role{Name: name, Permissions: stored.Permissions})
		}
	}
	return found
}
