// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// EndpointPersonalGrants lists what the subject of a session has been granted, as KSeF's
// documentation names it.
const EndpointPersonalGrants = "POST /permissions/query/personal/grants"

// Grants are the permissions that KSeF lists for the subject of a session.
type Grants struct {
	// Permissions are those in force in the session's context, each once, by KSeF's names. They may
	// have names that no token can have.
	Permissions []string
	// Owner says that KSeF lists the rights of the context's owner (since KSeF 2.9). Before, an
	// owner is not listed.
	Owner bool
	// HasMore says that there are more than these, or some that this version cannot read.
	HasMore bool
}

// grantsPage is the part of QueryPersonalPermissionsResponse that matters. How KSeF 2.9 shows an
// owner is documented by the name OwnerPermissionScope alone, so it is taken in all likely forms.
type grantsPage struct {
	Permissions []grantItem     `json:"permissions"`
	HasMore     bool            `json:"hasMore"`
	Owner       json.RawMessage `json:"ownerPermissionScope"`
}

type grantItem struct {
	// Scope is a string, and anything in a version to come.
	Scope   json.RawMessage    `json:"permissionScope"`
	Owner   json.RawMessage    `json:"ownerPermissionScope"`
	State   string             `json:"permissionState"`
	Context *ContextIdentifier `json:"contextIdentifier"`
}

// PersonalGrants returns the first hundred grants of the session's subject; taxpayer is that of the
// session.
func (c *Client) PersonalGrants(ctx context.Context, taxpayer ContextIdentifier) (*Grants, error) {
	first := url.Values{"pageOffset": {"0"}, "pageSize": {"100"}}
	page, err := fetch[grantsPage](ctx, c, call{endpoint: EndpointPersonalGrants, query: first, success: http.StatusOK, bearer: c.tokens, json: struct{}{}})
	if err != nil {
		return nil, err
	}
	return page.grants(taxpayer), nil
}

// grants leaves out what other taxpayers have granted.
func (p grantsPage) grants(taxpayer ContextIdentifier) *Grants {
	grants := &Grants{HasMore: p.HasMore, Owner: says(p.Owner)}
	for _, item := range p.Permissions {
		if item.State == "Inactive" || (item.Context != nil && *item.Context != taxpayer) {
			continue
		}
		if says(item.Owner) || strings.Contains(strings.ToLower(string(item.Scope)), "owner") {
			grants.Owner = true
		}
		var scope string
		switch err := json.Unmarshal(item.Scope, &scope); {
		case err != nil || scope == "":
			grants.HasMore = true
		case !slices.Contains(grants.Permissions, scope):
			grants.Permissions = append(grants.Permissions, scope)
		}
	}
	return grants
}

// says returns false for an empty value.
func says(value json.RawMessage) bool {
	return !slices.Contains([]string{"", "null", "false", `""`, "[]", "{}"}, string(value))
}
