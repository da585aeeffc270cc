// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathCreds() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "creds/" + fields.AnyName("role"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "credentials"},
		Fields: map[string]*framework.FieldSchema{
			"role": fields.NameSchema("role"),
			"ttl":  {Type: framework.TypeDurationSecond, Description: "Lease of this token, capped to the role's max_ttl and the mount's. Default: the role's ttl."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   fields.Forwarded(b.pathCredsRead, "generate", issueSchema()),
			logical.UpdateOperation: fields.Forwarded(b.pathCredsRead, "generate-with-parameters", issueSchema()),
		},
		HelpSynopsis:    "Issue a KSeF token under a role, as a lease.",
		HelpDescription: strings.TrimSpace(helpCreds),
	}, {
		// This path has help alone.
		Pattern:         "creds/?$",
		DisplayAttrs:    &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "credentials"},
		HelpSynopsis:    "Issue a KSeF token under a role: read creds/<role>.",
		HelpDescription: strings.TrimSpace(helpCreds),
	}}
}

func (b *backend) pathCredsRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "role")
	if err != nil {
		return errorResponse(err)
	}
	stored, err := b.readRole(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return errorResponse(&client.InputError{
			Field: "role", Fault: fmt.Sprintf("%q does not exist", name),
			Remedy: fmt.Sprintf("write it first (vault write <mount>/roles/%s permissions=...), or look for the right name: vault list <mount>/roles", name),
		})
	}
	ttl, err := ttlFrom(data, "ttl", stored.TTL)
	if err != nil {
		return errorResponse(err)
	}
	text, err := stored.template.Fill(name, req)
	if err != nil {
		return errorResponse(err)
	}
	return b.issue(ctx, tokenRequest{
		role: name, permissions: stored.Permissions, context: stored.Context,
		description: text, ttl: ttl, maxTTL: stored.MaxTTL,
	})
}

const helpCreds = `
Issue a new token with the role's permissions, as a lease:

  vault read ksef/creds/invoices
  vault write ksef/creds/invoices ttl=30m

KSeF revokes the token when its lease ends or is revoked. Sessions opened with it go
on for up to 15 minutes, the life of KSeF's own access tokens.

List the roles with vault list ksef/roles; there is no list of credentials.

This policy allows an application this role's tokens, and nothing else:

  path "ksef/creds/invoices" { capabilities = ["read"] }
`
