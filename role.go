// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/jsonentry"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// role is a role as stored.
type role struct {
	Permissions []string                 `json:"permissions"`
	Context     client.ContextIdentifier `json:"context"`
	Description string                   `json:"description"`
	TTL         time.Duration            `json:"ttl"`
	MaxTTL      time.Duration            `json:"max_ttl"`
	// AllowedContexts are the taxpayers that a request may name besides Context.
	AllowedContexts []string `json:"allowed_contexts,omitempty"`
	roleAccess
	roleLimits

	template *description.Template // of the description; nil before the role has been stored
}

// readRole returns nil if there is no such role, and errUnreadableRole if it is damaged.
func (b *backend) readRole(ctx context.Context, storage logical.Storage, name string) (*role, error) {
	return b.roles.read(ctx, storage, rolesPrefix+name, "the role "+name, (*role).complete, b.onUnreadable)
}

// complete makes what is not stored. It returns false for a damaged role.
func (r *role) complete() bool {
	r.template = description.Parse(r.Description)
	return len(r.Permissions) > 0
}

func (r *role) store(ctx context.Context, storage logical.Storage, name string) error {
	return jsonentry.Put(ctx, storage, rolesPrefix+name, r, "the role "+name)
}

// applyRole returns the role after a write of the fields. Fields that are not given stay as they
// are; unset ones are reset to their defaults.
func applyRole(name string, current *role, data *framework.FieldData, unset []string) (*role, error) {
	next := role{Description: description.Default}
	if current != nil {
		next = *current
	}
	for _, field := range unset {
		next.unset(field)
	}
	var err error
	if next.Permissions, next.Context, err = rightsFrom(data, next.Permissions, next.Context); err != nil {
		return nil, err
	}
	if template, given := data.GetOk("description"); given {
		next.Description = template.(string)
	}
	if err := description.CheckTemplate(next.Description, name); err != nil {
		return nil, err
	}
	if next.TTL, next.MaxTTL, err = ttlsFrom(data, next.TTL, next.MaxTTL); err != nil {
		return nil, err
	}
	if next.MaxTTL > 0 && next.TTL > next.MaxTTL {
		return nil, &client.InputError{Field: "ttl", Fault: "is longer than max_ttl", Remedy: "give a ttl of " + next.MaxTTL.String() + " or less"}
	}
	if err := next.roleAccess.apply(data); err != nil {
		return nil, err
	}
	if err := next.roleLimits.apply(data); err != nil {
		return nil, err
	}
	return &next, nil
}

// rightsFrom reads what a role's tokens may do, and for whom; what is not given stays as it is.
func rightsFrom(data *framework.FieldData, permissions []string, taxpayer client.ContextIdentifier) ([]string, client.ContextIdentifier, error) {
	if _, given := data.GetOk("permissions"); given || len(permissions) == 0 {
		read, err := fields.ReadPermissions(data)
		if err != nil {
			return nil, taxpayer, err
		}
		permissions = read
	}
	named, err := contextFrom(data)
	if err != nil || named.IsZero() {
		return permissions, taxpayer, err
	}
	return permissions, named, nil
}

// unset resets a field to its default.
func (r *role) unset(field string) {
	switch field {
	case "permissions":
		r.Permissions = nil
	case "description":
		r.Description = description.Default
	case "nip":
		r.Context = withoutType(r.Context, client.ContextNIP)
	case "internal_id":
		r.Context = withoutType(r.Context, client.ContextInternalID)
	case "ttl":
		r.TTL = 0
	case "max_ttl":
		r.MaxTTL = 0
	case fieldAllowedContexts:
		r.AllowedContexts = nil
	default:
		r.roleAccess.unset(field)
		r.roleLimits.unset(field)
	}
}

// ttlsFrom reads ttl and max_ttl; what is not given stays as it is.
func ttlsFrom(data *framework.FieldData, ttl, maxTTL time.Duration) (time.Duration, time.Duration, error) {
	ttl, err := ttlFrom(data, "ttl", ttl)
	if err == nil {
		maxTTL, err = ttlFrom(data, "max_ttl", maxTTL)
	}
	return ttl, maxTTL, err
}

func ttlFrom(data *framework.FieldData, field string, otherwise time.Duration) (time.Duration, error) {
	raw, given := data.GetOk(field)
	if !given {
		return otherwise, nil
	}
	ttl := time.Duration(raw.(int)) * time.Second
	if ttl < 0 {
		return 0, &client.InputError{Field: field, Fault: "is negative", Remedy: "give a duration such as 1h, or 0 for the mount's"}
	}
	return ttl, nil
}
