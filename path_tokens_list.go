// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"maps"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// withListFields adds the fields of tokens that only a list uses.
func withListFields(others map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	all := maps.Clone(others)
	all["after"] = &framework.FieldSchema{Type: framework.TypeString, Query: true, Description: "List: next of the page before. Default: the first page."}
	all["limit"] = &framework.FieldSchema{Type: framework.TypeInt, Query: true, Description: "List: most tokens of a page; a page may be shorter and not be the last. 0 lists all. Default: 0."}
	all["role"] = &framework.FieldSchema{Type: framework.TypeString, Query: true, Description: "List: only tokens of this role. Default: any."}
	return all
}

// listFilters are the fields of tokens that a list uses.
func listFilters() []string { return []string{"after", "limit", "role", "nip", "internal_id"} }

func (b *backend) pathTokensList(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	query, err := listQueryFrom(data)
	if err != nil {
		return failure.Response(err)
	}
	page, err := b.ledger.List(ctx, query)
	if err != nil {
		return failure.Response(err)
	}
	return pageResponse(page), nil
}

func listQueryFrom(data *framework.FieldData) (ledger.ListQuery, error) {
	query := ledger.ListQuery{
		After: data.Get("after").(string),
		Limit: data.Get("limit").(int),
		Role:  data.Get("role").(string),
	}
	if query.Limit < 0 {
		return query, &client.InputError{Field: "limit", Fault: "is negative", Remedy: "give a number of tokens, or 0 for all"}
	}
	var err error
	query.Taxpayer, err = contextFrom(data)
	return query, err
}

// pageResponse leaves keys out of an empty page, as Vault's lists do: Vault answers a list whose
// keys are there and empty with a 404, which would lose next.
func pageResponse(page *ledger.Page) *logical.Response {
	keys, details := make([]string, 0, len(page.Tokens)), make(map[string]any)
	for _, token := range page.Tokens {
		keys = append(keys, token.ReferenceNumber)
		if token.Record != nil || token.Unreadable {
			details[token.ReferenceNumber] = tokenDetails(token)
		}
	}
	response := logical.ListResponseWithInfo(keys, details)
	if page.Next != "" {
		response.Data["next"] = page.Next
	}
	if len(details) < len(keys) {
		response.AddWarning(fmt.Sprintf("key_info has the first %d of %d tokens; to see it of all, list pages with limit and after", len(details), len(keys)))
	}
	return response
}

// tokenDetails are what a list shows about a token.
func tokenDetails(token ledger.Listed) map[string]any {
	if token.Unreadable {
		return map[string]any{"state": "unreadable"}
	}
	record := token.Record
	shown := map[string]any{"role": record.Role, "state": string(record.State)}
	if record.Unleased() {
		shown["role"], shown["holder"] = record.Holder.Role, string(record.Holder.Kind)
	} else {
		shown["lease_end"] = record.Deadline.UTC().Format(time.RFC3339)
		shown["entity_id"], shown["display_name"] = record.EntityID, record.DisplayName
	}
	fields.AddTaxpayer(shown, record.Target.Context)
	return shown
}

func tokensListSchema() map[int][]framework.Response {
	return fields.ResponseSchema(map[string]*framework.FieldSchema{
		"keys": {Type: framework.TypeStringSlice, Description: "Reference numbers of this mount's tokens, by the end of their leases; then those without a lease; those that are being revoked, or are dead, last."},
		"key_info": {
			Type:        framework.TypeMap,
			Description: "By reference number: role, nip or internal_id, state (live, revoking, dead, released or unreadable), lease_end, and entity_id and display_name of who asked; of a token without a lease holder (static or access). Of a list without limit and filter, that of the first 1000.",
		},
		"next": {Type: framework.TypeString, Description: "Give it as after to list the next page; absent on the last."},
	})
}
