// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/description"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/rights"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const rolesPrefix = "roles/"

func (b *backend) pathRoles() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:      rolesPrefix + fields.AnyName("name"),
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "role"},
			Fields: fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, withRoleAccess(withLimits(map[string]*framework.FieldSchema{
				"name":        fields.NameSchema("role"),
				"permissions": fields.PermissionsSchema(),
				"description": {
					Type:        framework.TypeString,
					Default:     description.Default,
					Description: "Template of the tokens' description in KSeF's list: text and {{.RoleName}}, {{.DisplayName}}, {{.EntityID}}, {{.MountPoint}}, optionally through truncate N, truncate_sha256 N, lowercase, uppercase or sha256. Default: " + description.Default + ".",
				},
				"ttl":     {Type: framework.TypeDurationSecond, Description: "Lease of a token whose request gives none; 0 for the mount's, often 768h. Default: 0."},
				"max_ttl": {Type: framework.TypeDurationSecond, Description: "Longest lease of a token, renewals included; 0 for the mount's. Default: 0."},

				fieldAllowedContexts: roleContextsField(),
			}, " Default: 0."))),
			ExistenceCheck: b.roleExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: fields.Forwarded(b.pathRoleWrite, "write", fields.NoContentOrWarnings()),
				logical.UpdateOperation: fields.Forwarded(b.pathRoleWrite, "write", fields.NoContentOrWarnings()),
				logical.ReadOperation:   fields.ReadOperation(fields.WarnOfUnused(b.pathRoleRead, "name"), "read", roleSchema()),
				logical.DeleteOperation: fields.Forwarded(b.pathRoleDelete, "delete", fields.NoContentOrWarnings()),
			},
			HelpSynopsis:    "Configure which tokens an application may have, and for how long.",
			HelpDescription: strings.TrimSpace(helpRole),
		},
		{
			Pattern:      rolesPrefix + "?$",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "roles"},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: fields.ReadOperation(b.pathRoleList, "list", fields.ListSchema("Names of the roles.")),
			},
			HelpSynopsis:    "List the roles.",
			HelpDescription: strings.TrimSpace(helpRoles),
		},
	}
}

func (b *backend) roleExists(ctx context.Context, req *logical.Request, data *framework.FieldData) (bool, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return false, nil //nolint:nilerr // the request itself says so
	}
	entry, err := req.Storage.Get(ctx, rolesPrefix+name)
	if err != nil {
		return false, fmt.Errorf("reading the role %s: %w", name, err)
	}
	return entry != nil, nil
}

func (b *backend) pathRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	// An unreadable role is replaced as a whole.
	current, err := b.readRole(ctx, req.Storage, name)
	unreadable := errors.Is(err, errUnreadableRole)
	if err != nil && !unreadable {
		return nil, err
	}
	data, unset := fields.WithoutUnset(data)
	next, err := applyRole(name, current, data, unset)
	if err != nil {
		return failure.Response(err)
	}
	if err := next.applyContexts(data, b.configOrNone(ctx)); err != nil {
		return failure.Response(err)
	}
	stranger, err := b.otherSubjectWarning(ctx, next.Context)
	if err != nil {
		return nil, err
	}
	if err := next.store(ctx, req.Storage, name); err != nil {
		return nil, err
	}
	var pending string
	if unreadable || !reflect.DeepEqual(accessOf(current), accessOf(next)) {
		pending, err = b.followRole(ctx, name, next)
	}
	if err != nil {
		return failure.Response(fmt.Errorf("the role is stored, but what stood behind it could not be ended yet; the engine goes on by itself: %w", err))
	}
	b.events.Publish("role-write", rolesPrefix+name, logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation), "role", name)
	response := &logical.Response{}
	// Writing back an unchanged role warns of nothing.
	if !reflect.DeepEqual(current, next) {
		if !next.handsOutAccess() {
			fields.AddWarnings(response, leases.TTLWarnings(b.System(), next.TTL, next.MaxTTL)...)
		}
		fields.AddWarnings(response, next.unusedWarning())
	}
	fields.AddWarnings(response, stranger, pending)
	fields.AddWarnings(response, b.roleRightsWarnings(ctx, name, next)...)
	if len(response.Warnings) == 0 {
		return nil, nil
	}
	return response, nil
}

func (b *backend) pathRoleRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	role, err := b.readRole(ctx, req.Storage, name)
	if err != nil || role == nil {
		return nil, err
	}
	shown := map[string]any{
		"permissions": role.Permissions,
		"description": role.Description,
		"ttl":         int64(role.TTL / time.Second),
		"max_ttl":     int64(role.MaxTTL / time.Second),

		fieldAllowedContexts: orEmpty(role.AllowedContexts),
	}
	role.roleAccess.show(shown)
	role.roleLimits.show(shown)
	fields.AddTaxpayer(shown, role.Context)
	return &logical.Response{Data: shown}, nil
}

func (b *backend) pathRoleDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	if err := req.Storage.Delete(ctx, rolesPrefix+name); err != nil {
		return nil, fmt.Errorf("deleting the role %s: %w", name, err)
	}
	pending, err := b.followRole(ctx, name, nil)
	if err != nil {
		return failure.Response(fmt.Errorf("the role is deleted, but what stood behind it could not be ended yet; the engine goes on by itself: %w", err))
	}
	b.report.RoleDeleted(name)
	b.events.Publish("role-delete", rolesPrefix+name, logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation), "role", name)
	if pending == "" {
		return nil, nil
	}
	return &logical.Response{Warnings: []string{pending}}, nil
}

func (b *backend) pathRoleList(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := req.Storage.List(ctx, rolesPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the roles: %w", err)
	}
	return logical.ListResponse(names), nil
}

func roleSchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(withRoleAccessShown(withLimits(map[string]*framework.FieldSchema{
		"permissions": {Type: framework.TypeStringSlice, Description: "What the role's tokens may do."},
		"description": {Type: framework.TypeString, Description: "Template of a token's description."},
		"ttl":         {Type: framework.TypeInt64, Description: "Default lease, in seconds; 0 for the mount's."},
		"max_ttl":     {Type: framework.TypeInt64, Description: "Longest lease, in seconds; 0 for the mount's."},

		fieldAllowedContexts: {Type: framework.TypeStringSlice, Description: "Taxpayers that a request may name besides the role's own."},
	}, ""))))
}

// roleRightsWarnings says what KSeF will refuse of a role's tokens.
func (b *backend) roleRightsWarnings(ctx context.Context, name string, written *role) []string {
	ctx, cancel := context.WithTimeout(ctx, rights.MaxWait)
	defer cancel()
	current, err := b.connect(ctx)
	if err != nil {
		return nil // without a usable configuration there is no signer
	}
	taxpayer := written.Context
	if taxpayer.IsZero() {
		taxpayer = current.config.Context
	}
	return b.rightsWarnings(ctx, current, taxpayer, func() []rights.Role { return []rights.Role{{Name: name, Permissions: written.Permissions}} })
}

// rightsWarnings says what KSeF will refuse to the signer of the roles' tokens.
func (b *backend) rightsWarnings(ctx context.Context, current *connection, taxpayer client.ContextIdentifier, roles func() []rights.Role) []string {
	warnings, err := current.rights.Warnings(ctx, taxpayer, roles)
	if err != nil {
		b.Logger().Debug("KSeF did not tell the signer's rights", "context", taxpayer, "error", err)
	}
	return warnings
}

// rolesIn returns the roles whose tokens are a taxpayer's. Unreadable roles are left out: a warning
// is no proof.
func (b *backend) rolesIn(ctx context.Context, of *config, taxpayer client.ContextIdentifier) []rights.Role {
	names, err := b.storage.List(ctx, rolesPrefix)
	if err != nil {
		b.Logger().Warn("the roles could not be compared with the signer's rights", "error", err)
	}
	var found []rights.Role
	for _, name := range names {
		stored, err := b.readRole(ctx, b.storage, name)
		if err != nil || stored == nil {
			continue
		}
		if stored.isFor(of, taxpayer) {
			found = append(found, rights.Role{Name: name, Permissions: stored.Permissions})
		}
	}
	return found
}

const helpRole = `
Configure a role: the permissions of its tokens, the taxpayer in whose context they
live, their description in KSeF and their lease. A policy that allows reading
creds/<role> allows exactly that:

  vault write ksef/roles/invoices permissions=InvoiceRead,InvoiceWrite ttl=1h max_ttl=24h

Limits keep a program that runs wild from using up what KSeF allows the taxpayer:

  vault write ksef/roles/invoices max_live=20 max_live_per_entity=2 max_per_hour=30

A read of creds/<role> beyond a limit is refused with a 400, and KSeF is not asked.

Fields that are left out of a later write stay as they are. null or an empty text
resets a field to its default. Changing or deleting a role does not affect its
tokens: they end with their leases.
`

const helpRoles = `
List the names of the roles:

  vault list ksef/roles

Read about one role with vault path-help ksef/roles/<name>.
`
