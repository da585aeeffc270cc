// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/report"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStaticRoles() []*framework.Path {
	return []*framework.Path{
		{
			Pattern:        staticRolesPrefix + fields.AnyName("name"),
			DisplayAttrs:   &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-role"},
			Fields:         staticRoleFields(),
			ExistenceCheck: b.staticRoleExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: fields.Forwarded(b.pathStaticRoleWrite, "write", fields.NoContentOrWarnings()),
				logical.UpdateOperation: fields.Forwarded(b.pathStaticRoleWrite, "write", fields.NoContentOrWarnings()),
				logical.ReadOperation:   fields.ReadOperation(fields.WarnOfUnused(b.pathStaticRoleRead, "name"), "read", staticRoleSchema()),
				logical.DeleteOperation: fields.Forwarded(b.pathStaticRoleDelete, "delete", deletedSchema()),
			},
			HelpSynopsis:    "Configure a KSeF token that the engine keeps and rotates.",
			HelpDescription: strings.TrimSpace(helpStaticRole),
		},
		{
			Pattern:      staticRolesPrefix + "?$",
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "static-roles"},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: fields.ReadOperation(b.pathStaticRoleList, "list", fields.ListSchema("Names of the static roles.")),
			},
			HelpSynopsis:    "List the static roles.",
			HelpDescription: strings.TrimSpace(helpStaticRoles),
		},
	}
}

func staticRoleFields() map[string]*framework.FieldSchema {
	return fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, map[string]*framework.FieldSchema{
		"name":        fields.NameSchema("static role"),
		"permissions": fields.PermissionsSchema(),
		"description": {Type: framework.TypeString, Description: "Description of the tokens in KSeF's list; the engine adds its mark. Default: Static role and its name."},
		fieldRotationPeriod: {
			Type:        framework.TypeDurationSecond,
			Description: "How often the token is replaced by a new one, 10m or more. Give this or rotation_schedule. Default: 0, only by rotate-role.",
		},
		fieldRotationSchedule: {
			Type:        framework.TypeString,
			Description: "When the token is replaced: minute, hour, day, month and weekday in cron's form, in UTC, such as 0 3 * * SUN. Give this or rotation_period. Default: none.",
		},
		fieldRotationWindow: {
			Type:        framework.TypeDurationSecond,
			Description: "How long after a moment of rotation_schedule the rotation may begin, 1h or more. Default: 0, until the next moment.",
		},
		fieldDisableRotation: {Type: framework.TypeBool, Default: false, Description: "Stops rotation_period and rotation_schedule, which are kept. Default: false."},
		fieldGracePeriod:     {Type: framework.TypeDurationSecond, Description: "How long the token before stays good after a rotation, up to 2160h. Default: 1h."},
		fieldAllowedIPs: {
			Type: framework.TypeCommaStringSlice,
			Description: "IPv4 addresses from which KSeF accepts access tokens of static-creds/<name>/access-token, besides the engine's own: addresses, ranges and masks, at most 9. " +
				"It does not bind the token itself. Default: all addresses.",
		},
		fieldKeep: {Type: framework.TypeBool, Default: false, Description: "Delete: leaves the tokens alive and hands them over to the operator, instead of revoking them. Default: false."},
	})
}

// fieldKeep is of a delete alone.
const fieldKeep = "keep"

func staticRoleSchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"permissions":         {Type: framework.TypeStringSlice, Description: "What the token may do."},
		"description":         {Type: framework.TypeString, Description: "Description of the tokens in KSeF's list, without the engine's mark."},
		fieldRotationPeriod:   {Type: framework.TypeInt64, Description: "How often the token is replaced, in seconds; 0 for only by rotate-role. Absent beside rotation_schedule."},
		fieldRotationSchedule: {Type: framework.TypeString, Description: "When the token is replaced, in cron's form. Absent without one."},
		fieldRotationWindow:   {Type: framework.TypeInt64, Description: "How long after a moment of rotation_schedule the rotation may begin, in seconds. Absent without one."},
		fieldDisableRotation:  {Type: framework.TypeBool, Description: "Whether rotations by themselves are stopped."},
		fieldGracePeriod:      {Type: framework.TypeInt64, Description: "How long the token before stays good after a rotation, in seconds."},
		fieldAllowedIPs:       {Type: framework.TypeStringSlice, Description: "Addresses from which KSeF accepts the role's access tokens, besides the engine's own."},
	}))
}

func deletedSchema() map[int][]framework.Response {
	responses := fields.NoContentOrWarnings()
	responses[200] = []framework.Response{{Description: "What was kept", Fields: map[string]*framework.FieldSchema{
		"reference_numbers": {Type: framework.TypeStringSlice, Description: "With keep, the tokens that stay alive."},
	}}}
	return responses
}

func (b *backend) staticRoleExists(ctx context.Context, _ *logical.Request, data *framework.FieldData) (bool, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return false, nil //nolint:nilerr // the request itself says so
	}
	entry, err := b.storage.Get(ctx, staticRolesPrefix+name)
	if err != nil {
		return false, fmt.Errorf("reading the static role %s: %w", name, err)
	}
	return entry != nil, nil
}

func (b *backend) pathStaticRoleWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	before, err := b.readStaticRole(ctx, name)
	unreadable := errors.Is(err, errUnreadableRole)
	if err != nil && !unreadable {
		return nil, err
	}
	data, unset := fields.WithoutUnset(data)
	if err := refuseFields(data, fieldKeep); err != nil {
		return failure.Response(err)
	}
	next, err := applyStaticRole(name, before, data, unset)
	if err != nil {
		return failure.Response(err)
	}
	current, err := b.connect(ctx)
	if err != nil {
		return failure.Response(err)
	}
	if err := b.allowStaticTaxpayer(ctx, current, next); err != nil {
		return failure.Response(err)
	}
	if err := next.store(ctx, b.storage, name); err != nil {
		return nil, err
	}
	if unreadable {
		before = &staticRole{} // unlike the next in all that matters
	}
	return b.applyWrittenStaticRole(ctx, req, name, before, next)
}

// allowStaticTaxpayer refuses a taxpayer that config does not allow.
func (b *backend) allowStaticTaxpayer(ctx context.Context, current *connection, of *staticRole) error {
	err := b.allowContext(ctx, current, of.taxpayer(current.config), useToIssue)
	var refused *client.InputError
	if !errors.As(err, &refused) {
		return err
	}
	return &client.InputError{Field: refused.Field, Fault: refused.Fault, Remedy: "add it to allowed_contexts of config"}
}

// applyWrittenStaticRole has the role's token made, or rotated where the role now wants another.
// Where there was no role before (before is nil) and KSeF refuses the token, the role is removed
// again.
func (b *backend) applyWrittenStaticRole(ctx context.Context, req *logical.Request, name string, before, next *staticRole) (*logical.Response, error) {
	b.events.Publish("static-role-write", staticRolesPrefix+name, logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation), "role", name)
	key := unleased.StaticKey(name)
	token, err := b.holders.Apply(ctx, key)
	response := &logical.Response{}
	switch {
	case err == nil:
		fields.AddWarnings(response, token.Warning)
	case before == nil && !failure.IsInconclusive(err):
		_, _, deleted := b.deleteStaticRole(ctx, name, false)
		return failure.Response(errors.Join(fmt.Errorf("the static role was not kept, since its token could not be made: %w", err), deleted))
	case before == nil:
		fields.AddWarnings(response, fmt.Sprintf("The static role is stored, and its token could not be made yet; the engine goes on by itself: %v", err))
	default:
		fields.AddWarnings(response, fmt.Sprintf("The static role is stored, and the token before stays in force until the engine, which goes on by itself, has replaced it: %v", err))
	}
	if before != nil && !reflect.DeepEqual(staticAccessOf(before), staticAccessOf(next)) {
		if err := b.endStaticAccess(ctx, name); err != nil {
			return failure.Response(fmt.Errorf("the static role is stored, but a session with its token could not be ended yet; the engine goes on by itself: %w", err))
		}
	}
	if len(response.Warnings) == 0 {
		return nil, nil
	}
	return response, nil
}

func (b *backend) pathStaticRoleRead(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	stored, err := b.readStaticRole(ctx, name)
	if err != nil || stored == nil {
		return nil, err
	}
	return &logical.Response{Data: stored.show()}, nil
}

// staticAccessOf is what of a static role its access tokens depend on.
func staticAccessOf(r *staticRole) any {
	return []any{r.Permissions, r.Context, addressSet(r.AllowedIPs)}
}

// endStaticAccess ends the sessions with the tokens of a static role. Where it fails, no access
// token of before is handed out.
func (b *backend) endStaticAccess(ctx context.Context, name string) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	return b.access.EndRole(ctx, name, true)
}

// pathStaticRoleDelete revokes the role's tokens, or with keep hands them over.
func (b *backend) pathStaticRoleDelete(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	name, err := fields.ReadName(data, "name")
	if err != nil {
		return failure.Response(err)
	}
	keep := data.Get(fieldKeep).(bool)
	numbers, warning, err := b.deleteStaticRole(ctx, name, keep)
	if err != nil {
		return failure.Response(err)
	}
	if err := b.endStaticAccess(ctx, name); err != nil {
		return failure.Response(fmt.Errorf("the static role is deleted, but a session with its token could not be ended yet; the engine goes on by itself: %w", err))
	}
	b.report.RoleDeleted(report.StaticRole(name))
	b.events.Publish("static-role-delete", staticRolesPrefix+name, logical.EventMetadataModified, "true", logical.EventMetadataOperation, string(req.Operation), "role", name)
	if !keep || len(numbers) == 0 {
		if warning == "" {
			return nil, nil
		}
		return &logical.Response{Warnings: []string{warning}}, nil
	}
	return &logical.Response{
		Data: map[string]any{"reference_numbers": numbers},
		Warnings: []string{"These tokens stay alive, and nothing in Vault revokes them any more: revoke them in KSeF when they are no longer needed. " +
			"Those that this mount has made keep its mark: once the mount is gone, tidy/former counts and revokes them with the rest."},
	}, nil
}

// deleteStaticRole removes the role and ends its tokens. The role goes before its tokens: a read in
// between has no other made. With keep it goes after them, since the engine revokes the tokens of a
// role that is gone; what a read in between has had made is then kept as well.
func (b *backend) deleteStaticRole(ctx context.Context, name string, keep bool) (numbers []string, warning string, err error) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	key := unleased.StaticKey(name)
	if keep {
		numbers, err = b.holders.Delete(ctx, key, keep)
		if warning, err = pendingWarning(err); err != nil {
			return nil, "", err
		}
	}
	if err := b.storage.Delete(ctx, staticRolesPrefix+name); err != nil {
		return numbers, "", fmt.Errorf("deleting the static role %s: %w", name, err)
	}
	more, err := b.holders.Delete(ctx, key, keep)
	pending, err := pendingWarning(err)
	if err != nil {
		b.holders.Invalidate() // it finds again what is to be ended
	}
	return append(numbers, more...), cmp.Or(pending, warning), err
}

func (b *backend) pathStaticRoleList(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := b.storage.List(ctx, staticRolesPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the static roles: %w", err)
	}
	return logical.ListResponse(names), nil
}

// staticKey names the access token of a static role.
func staticKey(name string, taxpayer client.ContextIdentifier) accesstoken.Key {
	return accesstoken.Key{Role: name, Static: true, Taxpayer: taxpayer}
}

const helpStaticRole = `
Configure a static role: a KSeF token that the engine makes, keeps and rotates, and
that static-creds/<name> answers with as often as it is read:

  vault write ksef/static-roles/erp permissions=InvoiceRead,InvoiceWrite rotation_period=720h

The write has the token made. After a rotation the token before stays good for
grace_period, so that programs have time to read the new one. A change of the
permissions or of the taxpayer rotates at once. rotate-role/<name> rotates by hand.

Fields that are left out of a later write stay as they are. null or an empty text
resets a field to its default.

A delete revokes the tokens. With keep=true they stay alive and are yours to revoke.
`

const helpStaticRoles = `
List the names of the static roles:

  vault list ksef/static-roles

Read about one with vault path-help ksef/static-roles/<name>.
`
