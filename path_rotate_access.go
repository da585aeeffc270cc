// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"

	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathRotateAccess() []*framework.Path {
	pattern := func(pattern, suffix string, with map[string]*framework.FieldSchema) *framework.Path {
		with["role"] = fields.NameSchema("role")
		return &framework.Path{
			Pattern:      pattern,
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "rotate", OperationSuffix: suffix},
			Fields:       with,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: fields.Forwarded(b.pathRotateAccessWrite, "rotate", fields.NoContentOrWarnings()),
			},
			HelpSynopsis:    "Make anew what stands behind the access tokens of a role, now.",
			HelpDescription: strings.TrimSpace(helpRotateAccess),
		}
	}
	return []*framework.Path{
		pattern("rotate-access/(?P<role>[^/]+)/"+fields.AnyName("taxpayer"), "taxpayer-access", map[string]*framework.FieldSchema{
			"taxpayer": {Type: framework.TypeString, Required: true, Description: "Taxpayer: a NIP, or the identifier of an internal unit, that the role allows."},
		}),
		pattern("rotate-access/"+fields.AnyName("role"), "access", map[string]*framework.FieldSchema{}),
	}
}

// pathRotateAccessWrite has a new token made and logs in with it, or logs in anew with the
// certificate. What was handed out lives to its end.
func (b *backend) pathRotateAccessWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, stored, taxpayer, err := b.accessRoleIn(ctx, req, data)
	if err != nil {
		return failure.Response(err)
	}
	key, warning := accessKey(name, taxpayer), ""
	if !stored.byCertificate() {
		token, err := b.holders.Rotate(ctx, unleased.AccessKey(name, taxpayer), unleased.RotateOptions{RevokePrevious: true})
		if err != nil {
			return failure.Response(holderError(key, b.configOrNone(ctx), err))
		}
		warning = token.Warning
	}
	if _, err := b.access.Renew(ctx, key); err != nil {
		return failure.Response(fmt.Errorf("what stands behind the role could not be made anew: %w", err))
	}
	response := &logical.Response{Warnings: []string{"Access tokens that were handed out before live for up to 15 minutes more; only allowed_ips limits a stolen one."}}
	fields.AddWarnings(response, warning)
	return response, nil
}

const helpRotateAccess = `
Make a new token and a new session behind the access tokens of a role, and end those
before, now:

  vault write -f ksef/rotate-access/invoices
  vault write -f ksef/rotate-access/invoices/5265877635

What was handed out lives for up to 15 minutes more.
`
