// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathCreds() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "creds/" + framework.GenericNameRegex("role"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "credentials"},
		Fields: map[string]*framework.FieldSchema{
			"role": {Type: framework.TypeLowerCaseString, Required: true, Description: "Name of the role."},
			"ttl":  {Type: framework.TypeDurationSecond, Description: "Lease of this token, up to the role's max_ttl."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   writeOperation(b.pathCredsRead, "generate", issueAnswer()),
			logical.UpdateOperation: writeOperation(b.pathCredsRead, "generate-with-parameters", issueAnswer()),
		},
		HelpSynopsis:    "A new KSeF token under a role, as a lease.",
		HelpDescription: strings.TrimSpace(helpCreds),
	}}
}

func (b *backend) pathCredsRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name := data.Get("role").(string)
	stored, err := readRole(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return answerError(&client.InputError{
			Field: "role", Fault: fmt.Sprintf("%q does not exist", name),
			Remedy: "write it first, or list the roles that there are",
		})
	}
	ttl, err := requestedTTL(data, stored)
	if err != nil {
		return answerError(err)
	}
	description, err := describe(stored.Description, name, req)
	if err != nil {
		return answerError(err)
	}
	return b.issue(ctx, order{
		role: name, permissions: stored.Permissions, context: stored.Context,
		description: description, ttl: ttl, maxTTL: stored.MaxTTL,
	})
}

// requestedTTL lets a request ask for another lease than the role's default.
func requestedTTL(data *framework.FieldData, stored *role) (time.Duration, error) {
	ttl, _, err := ttlsFrom(&framework.FieldData{
		Raw:    onlyTTL(data),
		Schema: map[string]*framework.FieldSchema{"ttl": data.Schema["ttl"], "max_ttl": data.Schema["ttl"]},
	}, stored.TTL, stored.MaxTTL)
	return ttl, err
}

func onlyTTL(data *framework.FieldData) map[string]any {
	if raw, given := data.Raw["ttl"]; given {
		return map[string]any{"ttl": raw}
	}
	return nil
}

const helpCreds = `
Each read, or write, has KSeF make a new token with the role's permissions, and
answers with it as a lease:

  vault read ksef/creds/invoices

When the lease ends, or is revoked, KSeF revokes the token. What is in use then
goes on for up to 15 minutes: KSeF's own access tokens live as long.

A policy that lets an application have this role's tokens, and nothing else:

  path "ksef/creds/invoices" { capabilities = ["read"] }
`
