// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// queryMaxWait is how long a query waits for KSeF's limits.
const queryMaxWait = 10 * time.Second

func (b *backend) pathTokens() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "tokens/?$",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "tokens"},
		Fields: fields.WithTaxpayerDefault(tokensTaxpayer, withListFields(map[string]*framework.FieldSchema{
			"permissions": fields.PermissionsSchema(),
			"description": {
				Type:        framework.TypeString,
				Description: "Write: description of the new token in KSeF, required. Read: only tokens with this text in their description, 3 characters or more. Default: any.",
			},
			"ttl":     {Type: framework.TypeDurationSecond, Description: "Write: lease of the token, capped to max_ttl and the mount's; 0 for the mount's. Default: 0."},
			"max_ttl": {Type: framework.TypeDurationSecond, Description: "Write: longest lease, renewals included; 0 for the mount's. Default: 0."},
			"status": {
				Type:        framework.TypeCommaStringSlice,
				Description: "Read: only tokens in these states: " + strings.Join(client.TokenStatuses(), ", ") + ". Default: all.",
			},
			"author":             {Type: framework.TypeString, Description: "Read: only tokens made by this NIP, PESEL or fingerprint, 3 characters or more. Default: any."},
			"author_type":        {Type: framework.TypeString, AllowedValues: []any{"Nip", "Pesel", "Fingerprint"}, Description: "Read: type of author: Nip, Pesel or Fingerprint. Default: any."},
			"page_size":          {Type: framework.TypeInt, Default: client.DefaultPageSize, Description: "Read: tokens on a page, 10 to 100. Default: 10."},
			"continuation_token": {Type: framework.TypeString, Description: "Read: continuation_token of the page before. Default: the first page."},
		})),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathTokensWrite, "generate", issueSchema()),
			logical.ReadOperation:   fields.Forwarded(fields.WarnOfUnused(b.pathTokensRead, tokensFilters()...), "query", tokensSchema()),
			logical.ListOperation:   fields.ReadOperation(fields.WarnOfUnused(b.pathTokensList, listFilters()...), "list", tokensListSchema()),
		},
		HelpSynopsis:    "Issue a token with given permissions, or read KSeF's list of tokens.",
		HelpDescription: strings.TrimSpace(helpTokens),
	}}
}

// tokensTaxpayer is the default taxpayer of tokens.
const tokensTaxpayer = fields.TaxpayerOfConfig + "; in a list, any"

// tokensFilters are the fields of tokens that a read uses.
func tokensFilters() []string {
	return []string{"status", "description", "author", "author_type", "page_size", "continuation_token", "nip", "internal_id"}
}

func (b *backend) pathTokensWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	if err := refuseFields(data, "status", "author", "author_type", "page_size", "continuation_token", "after", "limit", "role"); err != nil {
		return failure.Response(err)
	}
	permissions, err := fields.ReadPermissions(data)
	if err != nil {
		return failure.Response(err)
	}
	text := data.Get("description").(string)
	if err := description.Check(text); err != nil {
		return failure.Response(err)
	}
	ttl, maxTTL, err := ttlsFrom(data, 0, 0)
	if err != nil {
		return failure.Response(err)
	}
	// Last, since asking for a new context counts as a first login.
	_, taxpayer, err := b.namedContext(ctx, data, useToIssue)
	if err != nil {
		return failure.Response(err)
	}
	of := func(of *config) (client.ContextIdentifier, error) {
		switch {
		case taxpayer.IsZero():
			return of.Context, nil
		case !of.allows(taxpayer):
			return taxpayer, notAllowed(taxpayer)
		}
		return taxpayer, nil
	}
	return b.issue(ctx, tokenRequest{
		requester: requesterOf(req), permissions: permissions, taxpayer: of,
		description: text, ttl: ttl, maxTTL: maxTTL,
	})
}

// refuseFields refuses a write with fields that the path has for its reads.
func refuseFields(data *framework.FieldData, fields ...string) error {
	for _, field := range fields {
		if _, given := data.Raw[field]; given {
			return &client.InputError{Field: field, Fault: "means nothing in a write", Remedy: "leave it out"}
		}
	}
	return nil
}

func (b *backend) pathTokensRead(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	query, err := queryFrom(data)
	if err != nil {
		return failure.Response(err)
	}
	current, taxpayer, err := b.requestContext(ctx, data, useToManage)
	if err != nil {
		return failure.Response(err)
	}
	page, err := current.upstream(b, taxpayer, ratelimit.Wait{AtMost: queryMaxWait}).QueryTokens(ctx, query)
	if err != nil {
		return failure.Response(err)
	}
	return &logical.Response{Data: map[string]any{"tokens": tokensResponse(page.Tokens), "continuation_token": page.Continuation}}, nil
}

func queryFrom(data *framework.FieldData) (client.TokenQuery, error) {
	query := client.TokenQuery{
		Statuses:     data.Get("status").([]string),
		Description:  data.Get("description").(string),
		Author:       data.Get("author").(string),
		AuthorType:   data.Get("author_type").(string),
		PageSize:     data.Get("page_size").(int),
		Continuation: data.Get("continuation_token").(string),
	}
	if err := fields.CheckKnown("status", query.Statuses, client.TokenStatuses()); err != nil {
		return query, err
	}
	if query.PageSize < client.MinPageSize || query.PageSize > client.MaxPageSize {
		return query, &client.InputError{Field: "page_size", Fault: fmt.Sprintf("is %d", query.PageSize), Remedy: "give 10 to 100"}
	}
	for field, value := range map[string]string{"description": query.Description, "author": query.Author} {
		if value != "" && len([]rune(value)) < minFilter {
			return query, &client.InputError{Field: field, Fault: "is too short to look for", Remedy: "give 3 characters or more"}
		}
	}
	if strings.ContainsFunc(query.Continuation, unicode.IsControl) {
		return query, &client.InputError{
			Field: "continuation_token", Fault: "holds a control character",
			Remedy: "give that of the page before, unchanged",
		}
	}
	if query.AuthorType != "" && !slices.Contains([]string{"Nip", "Pesel", "Fingerprint"}, query.AuthorType) {
		return query, &client.InputError{Field: "author_type", Fault: "is not known", Remedy: "give Nip, Pesel or Fingerprint"}
	}
	return query, nil
}

// minFilter is the shortest text that KSeF searches for (OpenAPI, GET /tokens).
const minFilter = 3

func tokensResponse(tokens []client.Token) []map[string]any {
	response := make([]map[string]any, 0, len(tokens))
	for _, token := range tokens {
		response = append(response, metadataResponse(&token))
	}
	return response
}

// metadataResponse shows what KSeF reports about a token.
func metadataResponse(token *client.Token) map[string]any {
	shown := map[string]any{
		"reference_number": token.ReferenceNumber,
		"author":           token.Author.Value,
		"author_type":      token.Author.Type,
		"permissions":      token.Permissions,
		"description":      token.Description,
		"status":           string(token.Status),
		"issued_at":        token.Created.UTC().Format(time.RFC3339),
	}
	fields.AddTaxpayer(shown, client.ContextIdentifier{Type: client.ContextType(token.Context.Type), Value: token.Context.Value})
	if token.LastUsed != nil {
		shown["last_used_at"] = token.LastUsed.UTC().Format(time.RFC3339)
	}
	if !token.ValidUntil.IsZero() {
		shown["valid_until"] = token.ValidUntil.UTC().Format(time.RFC3339)
	}
	if len(token.StatusDetails) > 0 {
		shown["status_details"] = token.StatusDetails
	}
	return shown
}

func metadataFields() map[string]*framework.FieldSchema {
	return fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"reference_number": {Type: framework.TypeString, Description: "KSeF's number of the token."},
		"author":           {Type: framework.TypeString, Description: "Who made the token."},
		"author_type":      {Type: framework.TypeString, Description: "Nip, Pesel or Fingerprint."},
		"permissions":      {Type: framework.TypeStringSlice, Description: "What the token may do."},
		"description":      {Type: framework.TypeString, Description: "The token's description in KSeF."},
		"status":           {Type: framework.TypeString, Description: "Pending, Active, Revoking, Revoked or Failed."},
		"status_details":   {Type: framework.TypeStringSlice, Description: "KSeF's remarks on the status."},
		"issued_at":        {Type: framework.TypeTime, Description: "When KSeF made the token."},
		"last_used_at":     {Type: framework.TypeTime, Description: "When the token last logged in."},
		"valid_until":      {Type: framework.TypeTime, Description: "When KSeF ends the token by itself; absent if KSeF does not say."},
	})
}

func tokensSchema() map[int][]framework.Response {
	return fields.ResponseSchema(map[string]*framework.FieldSchema{
		"tokens":             {Type: framework.TypeSlice, Description: "The tokens, newest first; the fields of each are those of tokens/<reference_number>."},
		"continuation_token": {Type: framework.TypeString, Description: "Give it to read the next page; empty on the last."},
	})
}

const helpTokens = `
Issue a token with the given permissions and description, as a lease. Prefer
creds/<role> for applications.

  vault write ksef/tokens permissions=InvoiceRead description="Monthly report" ttl=2h

Read KSeF's own list, newest first, which includes tokens of others:

  vault read ksef/tokens status=Active page_size=100

List this mount's tokens without asking KSeF: their reference numbers and, with
-detailed, role, taxpayer, state, end of the lease and who asked. The details are
those of the first 1000 tokens:

  vault list -detailed ksef/tokens

List the tokens of a role or of a taxpayer, page by page. A page may be short, or
without keys, and not be the last: as long as an answer has next, give it as after:

  curl -H "X-Vault-Token: $VAULT_TOKEN" \
    "$VAULT_ADDR/v1/ksef/tokens?list=true&role=invoices&limit=100&after=$NEXT"

A request for a token whose outcome is not known has no number and is not listed.
`
