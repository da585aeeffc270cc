// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/fields"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// secretAccessType names the leases of access tokens.
const secretAccessType = "ksef_access_token"

// secretAccess is the lease of an access token, of roles with leased=true. It cannot be renewed,
// and its end does nothing: KSeF has no way to end an access token.
func (b *backend) secretAccess() *framework.Secret {
	return &framework.Secret{
		Type: secretAccessType, Fields: accessFields(),
		Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
			return nil, nil
		},
	}
}

// accessResponse answers with an access token. Agents read again by ttl, rotation_period and
// last_vault_rotation.
func accessResponse(token *accesstoken.Token, taxpayer client.ContextIdentifier, permissions []string) *logical.Response {
	answer := map[string]any{
		"access_token":             token.AccessToken.Reveal(),
		"token_type":               "Bearer",
		"expires_at":               token.ExpiresAt.UTC().Format(time.RFC3339),
		"ttl":                      int64(token.TTL / time.Second),
		"rotation_period":          int64(token.RefreshPeriod / time.Second),
		"last_vault_rotation":      token.FetchedAt.UTC().Format(time.RFC3339),
		"session_reference_number": token.SessionNumber,
	}
	if permissions != nil {
		answer["permissions"] = permissions
	}
	fields.AddTaxpayer(answer, taxpayer)
	response := &logical.Response{Data: answer}
	fields.AddWarnings(response, token.Warning)
	return response
}

// leaseAccess makes a lease of the answer that ends at the engine's next refresh.
func leaseAccess(response *logical.Response, token *accesstoken.Token) {
	response.Secret = &logical.Secret{
		LeaseOptions: logical.LeaseOptions{TTL: token.TTL, MaxTTL: token.TTL},
		InternalData: map[string]any{"secret_type": secretAccessType},
	}
}

// accessFields are what an answer with an access token holds.
func accessFields() map[string]*framework.FieldSchema {
	return fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"access_token": {
			Type: framework.TypeString, Description: "KSeF's access token, a JWT of 15 minutes. Nothing but its end ends it.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"token_type":               {Type: framework.TypeString, Description: "Bearer: the value of Authorization is Bearer and the access token."},
		"expires_at":               {Type: framework.TypeTime, Description: "When the access token ends."},
		"ttl":                      {Type: framework.TypeInt64, Description: "Seconds until the engine has a newer one: read again then."},
		"rotation_period":          {Type: framework.TypeInt64, Description: "Seconds between two refreshes of the engine."},
		"last_vault_rotation":      {Type: framework.TypeTime, Description: "When the engine fetched this access token."},
		"session_reference_number": {Type: framework.TypeString, Description: "KSeF's number of the session that it belongs to."},
		"permissions":              {Type: framework.TypeStringSlice, Description: "What it may do: the role's permissions, or with login=certificate those of the subject, owner for all."},
	})
}
