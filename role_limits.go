// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"maps"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
)

// roleLimits are the limits of a role in each context, as stored; 0 is no limit.
type roleLimits struct {
	MaxLive          int `json:"max_live,omitempty"`
	MaxLivePerEntity int `json:"max_live_per_entity,omitempty"`
	MaxPerHour       int `json:"max_per_hour,omitempty"`
}

// fields returns where the limits are kept, by the names of their fields.
func (r *roleLimits) fields() map[string]*int {
	return map[string]*int{"max_live": &r.MaxLive, "max_live_per_entity": &r.MaxLivePerEntity, "max_per_hour": &r.MaxPerHour}
}

// apply changes the limits that a write gives.
func (r *roleLimits) apply(data *framework.FieldData) error {
	for field, limit := range r.fields() {
		given, found := data.GetOk(field)
		if !found {
			continue
		}
		if given.(int) < 0 {
			return &client.InputError{Field: field, Fault: "is negative", Remedy: "give a number of tokens, or 0 for no limit"}
		}
		*limit = given.(int)
	}
	return nil
}

// unset resets a limit to none; other fields are left alone.
func (r *roleLimits) unset(field string) {
	if limit := r.fields()[field]; limit != nil {
		*limit = 0
	}
}

// show adds the limits to a response.
func (r *roleLimits) show(response map[string]any) {
	for field, limit := range r.fields() {
		response[field] = *limit
	}
}

// withLimits adds the fields of the limits to those of a role; note follows their descriptions.
func withLimits(others map[string]*framework.FieldSchema, note string) map[string]*framework.FieldSchema {
	all := maps.Clone(others)
	for field, description := range map[string]string{
		"max_live":            "Most tokens of the role in one context that are issuing, live or revoking; 0 for no limit.",
		"max_live_per_entity": "The same for each entity, or display name where Vault knows no entity; 0 for no limit.",
		"max_per_hour":        "Most tokens of the role in one context that are issued within an hour; 0 for no limit.",
	} {
		all[field] = &framework.FieldSchema{Type: framework.TypeInt, Description: description + note}
	}
	return all
}
