// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"

	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/rights"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// pathConfigWriteChecked is pathConfigWrite with warnings of what KSeF will refuse. KSeF is asked
// when the new configuration is in force and nothing waits for the write any more.
func (b *backend) pathConfigWriteChecked(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	response, err := b.pathConfigWrite(ctx, req, data)
	current := b.connection.get()
	if err != nil || response == nil || response.IsError() || current == nil {
		return response, err
	}
	bound, err := current.boundBeforeWarning(ctx)
	if err != nil {
		b.Logger().Warn("the session in force could not be read", "error", err)
	}
	fields.AddWarnings(response, bound)
	if given, _ := fields.WithoutUnset(data); !given.Get("verify").(bool) {
		return response, nil
	}
	named := func() []rights.Role { return b.rolesIn(ctx, current.config.Context, current.config.Context) }
	fields.AddWarnings(response, b.rightsWarnings(ctx, current, current.config.Context, named)...)
	return response, nil
}
