// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"strings"

	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathRotateRole() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "rotate-role/" + fields.AnyName("name"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: "static-role"},
		Fields: map[string]*framework.FieldSchema{
			"name":              fields.NameSchema("static role"),
			fieldRevokePrevious: {Type: framework.TypeBool, Default: false, Description: "Revokes the token before at once, without grace_period: for a token that has leaked. Default: false."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathRotateRoleWrite, "rotate", fields.NoContentOrWarnings()),
		},
		HelpSynopsis:    "Rotate the token of a static role now.",
		HelpDescription: strings.TrimSpace(helpRotateRole),
	}}
}

const fieldRevokePrevious = "revoke_previous"

// pathRotateRoleWrite leaves the schedule as it is, as in Vault's database engine.
func (b *backend) pathRotateRoleWrite(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, stored, current, err := b.staticRoleIn(ctx, data)
	if err != nil {
		return failure.Response(err)
	}
	key := staticKey(name, stored.taxpayer(current.config))
	token, err := b.holders.Rotate(ctx, unleased.StaticKey(name),
		unleased.RotateOptions{RevokePrevious: data.Get(fieldRevokePrevious).(bool), KeepSchedule: true})
	if err != nil {
		return failure.Response(holderError(key, current.config, err))
	}
	b.access.Changed(keyIs(key))
	if token.Warning == "" {
		return nil, nil
	}
	return &logical.Response{Warnings: []string{token.Warning}}, nil
}

const helpRotateRole = `
Replace the token of a static role by a new one. The token before stays good for the
role's grace_period; a leaked one is ended at once with revoke_previous:

  vault write -f ksef/rotate-role/erp
  vault write ksef/rotate-role/erp revoke_previous=true

The next rotation by rotation_period or rotation_schedule stays where it is.
`
