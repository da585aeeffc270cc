// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/quota"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathCreds() []*framework.Path {
	operations := func() map[logical.Operation]framework.OperationHandler {
		return map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   fields.Forwarded(b.pathCredsRead, "generate", credsSchema()),
			logical.UpdateOperation: fields.Forwarded(b.pathCredsRead, "generate-with-parameters", credsSchema()),
		}
	}
	return []*framework.Path{{
		// Before the path without a taxpayer, which matches all.
		Pattern:      "creds/(?P<role>[^/]+)/" + fields.AnyName("taxpayer"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "taxpayer-credentials"},
		Fields: credsFields(map[string]*framework.FieldSchema{
			"taxpayer": {Type: framework.TypeString, Required: true, Description: "Taxpayer: a NIP, or the identifier of an internal unit, that the role allows."},
		}),
		Operations:      operations(),
		HelpSynopsis:    "Issue a KSeF token under a role for one of its taxpayers, or read its access token.",
		HelpDescription: strings.TrimSpace(helpCreds),
	}, {
		Pattern:         "creds/" + fields.AnyName("role"),
		DisplayAttrs:    &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "credentials"},
		Fields:          credsFields(map[string]*framework.FieldSchema{}),
		Operations:      operations(),
		HelpSynopsis:    "Issue a KSeF token under a role, or read its access token.",
		HelpDescription: strings.TrimSpace(helpCreds),
	}, {
		// This path has help alone.
		Pattern:         "creds/?$",
		DisplayAttrs:    &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "credentials"},
		HelpSynopsis:    "Issue a KSeF token under a role, or read its access token: read creds/<role>.",
		HelpDescription: strings.TrimSpace(helpCreds),
	}}
}

func credsFields(with map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	with["role"] = fields.NameSchema("role")
	with["ttl"] = &framework.FieldSchema{Type: framework.TypeDurationSecond, Description: "Lease of this token, capped to the role's max_ttl and the mount's. Default: the role's ttl."}
	return with
}

func (b *backend) pathCredsRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "role")
	if err != nil {
		return failure.Response(err)
	}
	stored, err := b.readRole(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return failure.Response(noRole(name))
	}
	named, _ := data.GetOk("taxpayer") // the path without a taxpayer has no such field
	of := func(of *config) (client.ContextIdentifier, error) { return stored.taxpayer(name, asText(named), of) }
	if err := b.admitRoleTaxpayer(ctx, name, stored, of); err != nil {
		return failure.Response(err)
	}
	if stored.handsOutAccess() {
		return b.readAccess(ctx, name, stored, of, data)
	}
	ttl, err := ttlFrom(data, "ttl", stored.TTL)
	if err != nil {
		return failure.Response(err)
	}
	text, err := stored.template.Fill(name, req)
	if err != nil {
		return failure.Response(err)
	}
	return b.issue(ctx, tokenRequest{
		role: name, requester: requesterOf(req), permissions: stored.Permissions, taxpayer: of,
		description: text, ttl: ttl, maxTTL: stored.MaxTTL, limits: quota.Limits(stored.roleLimits),
	})
}

// readAccess answers with the access token of a role.
func (b *backend) readAccess(ctx context.Context, name string, stored *role, of func(*config) (client.ContextIdentifier, error), data *framework.FieldData) (*logical.Response, error) {
	current, err := b.connect(ctx)
	if err != nil {
		return failure.Response(err)
	}
	taxpayer, err := of(current.config)
	if err != nil {
		return failure.Response(err)
	}
	key := accessKey(name, taxpayer)
	if !stored.byCertificate() {
		if err := checkTokensAccepted(current.config, withoutTokens(key)); err != nil {
			return failure.Response(err)
		}
	}
	token, err := b.accessToken(ctx, key)
	if err != nil {
		return failure.Response(holderError(key, current.config, err))
	}
	permissions, missing := stored.Permissions, ""
	if stored.byCertificate() {
		permissions, missing = b.subjectRights(ctx, current, key, token)
	}
	response := accessResponse(token, taxpayer, permissions)
	if stored.Leased {
		leaseAccess(response, token)
	}
	fields.AddWarnings(response, missing)
	if _, given := data.GetOk("ttl"); given {
		fields.AddWarnings(response, "ttl has no effect: the life of an access token is KSeF's.")
	}
	return response, nil
}

func asText(value any) string {
	text, _ := value.(string)
	return text
}

// tokenRequest says which token is wanted.
type tokenRequest struct {
	role        string
	requester   requester
	permissions []string
	// taxpayer returns whose the token is to be under the configuration in force; it refuses one
	// that this does not allow.
	taxpayer    func(of *config) (client.ContextIdentifier, error)
	description string
	ttl, maxTTL time.Duration
	limits      quota.Limits
}

// requester is who asks, as Vault knows them.
type requester struct{ entityID, displayName string }

func requesterOf(req *logical.Request) requester {
	return requester{entityID: req.EntityID, displayName: req.DisplayName}
}

// issue has KSeF make a token and answers with it as a lease.
func (b *backend) issue(ctx context.Context, want tokenRequest) (*logical.Response, error) {
	if _, err := b.connect(ctx); err != nil {
		return failure.Response(err)
	}
	ttl, warnings, err := framework.CalculateTTL(b.System(), 0, want.ttl, 0, want.maxTTL, 0, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("calculating the lease: %w", err)
	}
	if want.ttl == 0 {
		warnings = nil // it was the mount's default that was capped
	}
	b.admitIssue()
	issued, err := b.ledger.Issue(ctx, func() (ledger.IssueRequest, error) { return b.issueRequest(want, ttl) })
	if err != nil {
		return failure.Response(err)
	}
	b.unmounting.markAnswered()
	b.openTargets.Add(issued.Record.Target)
	response := &logical.Response{Data: tokenResponse(issued), Secret: &logical.Secret{
		LeaseOptions: logical.LeaseOptions{TTL: ttl, MaxTTL: want.maxTTL, Renewable: true},
		InternalData: leaseData(&issued.Record, want).internal(),
	}}
	if !issued.Until.IsZero() {
		warnings = capLease(response.Secret, issued, warnings)
	}
	fields.AddWarnings(response, warnings...)
	if issued.NotActive != nil {
		fields.AddWarnings(response, fmt.Sprintf("The token is not active yet and cannot log in before it is: %v", issued.NotActive))
	}
	return response, nil
}

// issueRequest completes a token request from the configuration in force.
func (b *backend) issueRequest(want tokenRequest, ttl time.Duration) (ledger.IssueRequest, error) {
	current := b.connection.get()
	if current == nil {
		return ledger.IssueRequest{}, ledger.ErrPaused
	}
	// Again, since config may have changed since the request was checked.
	taxpayer, err := want.taxpayer(current.config)
	if err != nil {
		return ledger.IssueRequest{}, err
	}
	until := current.config.TokensAcceptedUntil
	if err := leases.CheckUntil(until, time.Now()); err != nil {
		return ledger.IssueRequest{}, err
	}
	if !until.IsZero() {
		ttl = min(ttl, ledger.LeaseLeft(until, time.Now()))
	}
	return ledger.IssueRequest{
		Target: ledger.Target{API: current.config.URL, Context: taxpayer},
		Role:   want.role, EntityID: want.requester.entityID, DisplayName: want.requester.displayName,
		Limits: want.limits, Permissions: want.permissions, Description: want.description,
		TTL: ttl, Until: until, ActivationTimeout: current.config.ActivationTimeout,
	}, nil
}

// capLease keeps Vault from computing a lease that goes beyond the token's end. It returns the
// warnings of the lease: Vault adds none to one that it need not cap.
func capLease(lease *logical.Secret, issued *ledger.Issued, warnings []string) []string {
	left := ledger.LeaseLeft(issued.Until, time.Now())
	if lease.MaxTTL == 0 || lease.MaxTTL > left {
		lease.MaxTTL = left
	}
	if lease.TTL <= left {
		return warnings
	}
	lease.TTL = left
	end := leases.End{At: issued.Until, ByKSeF: issued.Until.Equal(issued.Record.ValidUntil)}
	return []string{end.Capped(left)}
}

func tokenResponse(issued *ledger.Issued) map[string]any {
	answer := map[string]any{
		"token":            issued.Token.Reveal(),
		"reference_number": issued.Record.ReferenceNumber,
		"permissions":      issued.Record.Permissions,
		"description":      issued.Record.Description,
		"status":           string(issued.Status),
		"issued_at":        issued.Record.Created.Format(time.RFC3339),
	}
	fields.AddTaxpayer(answer, issued.Record.Target.Context)
	return answer
}

// tokenFields are what an answer with a token holds.
func tokenFields() map[string]*framework.FieldSchema {
	return fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"token": {
			Type: framework.TypeString, Description: "The KSeF token. KSeF shows it once, and so does Vault.",
			DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
		},
		"reference_number": {Type: framework.TypeString, Description: "KSeF's number of the token."},
		"permissions":      {Type: framework.TypeStringSlice, Description: "What the token may do."},
		"description":      {Type: framework.TypeString, Description: "The token's description in KSeF, the engine's mark included."},
		"status":           {Type: framework.TypeString, Description: "Active, or Pending where activation_timeout was too short."},
		"issued_at":        {Type: framework.TypeTime, Description: "When the token was asked for."},
	})
}

func issueSchema() map[int][]framework.Response {
	return fields.ResponseSchema(tokenFields())
}

// credsSchema is for a token or an access token, by the role's credential_type.
func credsSchema() map[int][]framework.Response {
	schema := tokenFields()
	maps.Copy(schema, accessFields())
	return fields.ResponseSchema(schema)
}

const helpCreds = `
Issue a new token with the role's permissions, as a lease:

  vault read ksef/creds/invoices
  vault write ksef/creds/invoices ttl=30m
  vault read ksef/creds/office/5265877635

KSeF revokes the token when its lease ends or is revoked. Sessions opened with it go
on for up to 15 minutes, the life of KSeF's own access tokens.

The third names one of the taxpayers in allowed_contexts of the role.

Where the role has credential_type=access_token, the answer is KSeF's JWT of 15 minutes,
access_token, as often as you like and at no cost to KSeF. It has no lease: read again
after ttl seconds. With leased=true it has one that ends then; a revocation of it does
nothing.

List the roles with vault list ksef/roles; there is no list of credentials.

This policy allows an application this role's tokens, and nothing else:

  path "ksef/creds/invoices" { capabilities = ["read"] }
`
