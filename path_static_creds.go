// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStaticCreds() []*framework.Path {
	name := func() map[string]*framework.FieldSchema {
		return map[string]*framework.FieldSchema{"name": fields.NameSchema("static role")}
	}
	return []*framework.Path{
		{
			Pattern:      "static-creds/(?P<name>[^/]+)/access-token", // before the path of the token, which matches all
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-role-access-token"},
			Fields:       name(),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: fields.Forwarded(b.pathStaticAccessRead, "read", fields.ResponseSchema(accessFields())),
			},
			HelpSynopsis:    "Read an access token of a static role's token.",
			HelpDescription: strings.TrimSpace(helpStaticAccess),
		},
		{
			Pattern:      "static-creds/" + fields.AnyName("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-role-credentials"},
			Fields:       name(),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: fields.Forwarded(b.pathStaticCredsRead, "read", fields.ResponseSchema(staticCredsFields())),
			},
			HelpSynopsis:    "Read the token of a static role.",
			HelpDescription: strings.TrimSpace(helpStaticCreds),
		},
	}
}

func staticCredsFields() map[string]*framework.FieldSchema {
	return fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"token": {
			Type: framework.TypeString, Description: "The KSeF token in force.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"reference_number":           {Type: framework.TypeString, Description: "KSeF's number of the token."},
		"permissions":                {Type: framework.TypeStringSlice, Description: "What the token may do."},
		"last_vault_rotation":        {Type: framework.TypeTime, Description: "When the token was put in force."},
		fieldRotationPeriod:          {Type: framework.TypeInt64, Description: "How often the token is replaced, in seconds; 0 for only by rotate-role. Absent beside rotation_schedule."},
		fieldRotationSchedule:        {Type: framework.TypeString, Description: "When the token is replaced, in cron's form. Absent without one."},
		fieldRotationWindow:          {Type: framework.TypeInt64, Description: "How long after a moment of rotation_schedule the rotation may begin, in seconds. Absent without one."},
		"ttl":                        {Type: framework.TypeInt64, Description: "Seconds until the next rotation. Absent where none is planned."},
		"previous_token_valid_until": {Type: framework.TypeTime, Description: "When the token before is revoked. Absent without one."},
	})
}

func (b *backend) pathStaticCredsRead(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, stored, current, err := b.staticRoleIn(ctx, data)
	if err != nil {
		return failure.Response(err)
	}
	key := staticKey(name, stored.taxpayer(current.config))
	if err := checkTokensAccepted(current.config, withoutTokens(key)); err != nil {
		return failure.Response(err)
	}
	token, err := b.holders.Token(ctx, unleased.StaticKey(name))
	if err != nil {
		return failure.Response(holderError(key, current.config, err))
	}
	return staticCredsResponse(stored, token), nil
}

func staticCredsResponse(stored *staticRole, token *unleased.Token) *logical.Response {
	answer := map[string]any{
		"token":               token.Token.Reveal(),
		"reference_number":    token.ReferenceNumber,
		"permissions":         token.Permissions,
		"last_vault_rotation": token.LastRotation.UTC().Format(time.RFC3339),
	}
	stored.showRotation(answer)
	if !token.NextRotation.IsZero() {
		answer["ttl"] = max(0, int64(time.Until(token.NextRotation)/time.Second))
	}
	if !token.PreviousUntil.IsZero() {
		answer["previous_token_valid_until"] = token.PreviousUntil.UTC().Format(time.RFC3339)
	}
	fields.AddTaxpayer(answer, token.Target.Context)
	response := &logical.Response{Data: answer}
	fields.AddWarnings(response, token.Warning)
	return response
}

// staticRoleIn returns the static role that a path names, and the connection in force.
func (b *backend) staticRoleIn(ctx context.Context, data *framework.FieldData) (string, *staticRole, *connection, error) {
	b.admitIssue()
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return "", nil, nil, err
	}
	stored, err := b.readStaticRole(ctx, name)
	if err != nil {
		return name, nil, nil, err
	}
	if stored == nil {
		return name, nil, nil, noStaticRole(name)
	}
	current, err := b.connect(ctx)
	return name, stored, current, err
}

func (b *backend) pathStaticAccessRead(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, stored, current, err := b.staticRoleIn(ctx, data)
	if err != nil {
		return failure.Response(err)
	}
	taxpayer := stored.taxpayer(current.config)
	key := staticKey(name, taxpayer)
	if err := checkTokensAccepted(current.config, withoutTokens(key)); err != nil {
		return failure.Response(err)
	}
	token, err := b.accessToken(ctx, key)
	if err != nil {
		return failure.Response(holderError(key, current.config, err))
	}
	return accessResponse(token, taxpayer, stored.Permissions), nil
}

const helpStaticCreds = `
Read the token that the engine keeps for a static role, as often as you like. It costs
KSeF nothing:

  vault read ksef/static-creds/erp

Read again after ttl seconds, when it is rotated. The token before stays good until
previous_token_valid_until.
`

const helpStaticAccess = `
Read an access token, KSeF's JWT of 15 minutes, of a session that the engine has opened
with the static role's token. A policy can grant it without the token itself:

  path "ksef/static-creds/erp/access-token" { capabilities = ["read"] }

Read again after ttl seconds.
`
