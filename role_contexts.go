// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"slices"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
)

func roleContextsField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeCommaStringSlice,
		Description: "Taxpayers that creds/<role>/<taxpayer> may name besides the role's own nip or internal_id: NIPs and identifiers of internal units that config allows, " +
			"or * for all that it allows. Default: none.",
	}
}

// applyContexts reads allowed_contexts of a role. Each must be one that config allows; of is nil
// where there is no configuration yet.
func (r *role) applyContexts(data *framework.FieldData, of *config) (err error) {
	if r.AllowedContexts, err = allowedContextsFrom(data, r.AllowedContexts); err != nil {
		return err
	}
	if _, given := data.GetOk(fieldAllowedContexts); !given || of == nil {
		return nil
	}
	for i, value := range r.AllowedContexts {
		if value == everyContext || of.Context.Value == value || slices.Contains(of.AllowedContexts, value) || of.allowsEvery() {
			continue
		}
		return &client.InputError{
			Field: fieldAllowedContexts, Fault: fmt.Sprintf("has at place %d a context that config does not allow", i+1),
			Remedy: "add it to allowed_contexts of config first",
		}
	}
	return nil
}

// configOrNone returns the configuration in force, nil where there is none that can be used.
func (b *backend) configOrNone(ctx context.Context) *config {
	current, err := b.connect(ctx)
	if err != nil {
		return nil
	}
	return current.config
}

// isFor says that the role names the taxpayer, by itself or through the configuration.
func (r *role) isFor(of *config, taxpayer client.ContextIdentifier) bool {
	switch {
	case taxpayer == r.Context, slices.Contains(r.AllowedContexts, taxpayer.Value):
		return true
	case slices.Contains(r.AllowedContexts, everyContext) && of.names(taxpayer):
		return true
	}
	return r.isForOwnOf(of) && taxpayer == of.Context
}

// isForOwnOf says that a request without a taxpayer is about config's own.
func (r *role) isForOwnOf(of *config) bool {
	return r.Context.IsZero() && (len(r.AllowedContexts) == 0 ||
		slices.Contains(r.AllowedContexts, of.Context.Value) || slices.Contains(r.AllowedContexts, everyContext))
}

// taxpayer returns whom a request under the role is about: the taxpayer that its path names ("" for
// none), else the role's own, else config's. It refuses one that the role or config does not allow.
// It sends and reads nothing.
func (r *role) taxpayer(name, named string, of *config) (client.ContextIdentifier, error) {
	if named != "" {
		return r.namedTaxpayer(name, named, of)
	}
	switch {
	case !r.Context.IsZero():
		return r.Context, nil
	case r.isForOwnOf(of):
		return of.Context, nil
	}
	return client.ContextIdentifier{}, &client.InputError{
		Field: "role", Fault: fmt.Sprintf("%q is for the taxpayers of its allowed_contexts, and that of config is none of them", name),
		Remedy: fmt.Sprintf("name one: vault read <mount>/creds/%s/<NIP or identifier of an internal unit>", name),
	}
}

func (r *role) namedTaxpayer(name, named string, of *config) (client.ContextIdentifier, error) {
	taxpayer, err := parseContext(named)
	if err != nil {
		return taxpayer, &client.InputError{
			Field: "taxpayer", Fault: "is neither a NIP nor the identifier of an internal unit",
			Remedy: fmt.Sprintf("give ten digits, or NIP, dash and five digits: <mount>/creds/%s/5265877635", name),
		}
	}
	switch {
	case taxpayer == r.Context, r.isForOwnOf(of) && taxpayer == of.Context:
		return taxpayer, nil
	case !slices.Contains(r.AllowedContexts, taxpayer.Value) && !slices.Contains(r.AllowedContexts, everyContext):
		return taxpayer, &client.InputError{
			Field: "taxpayer", Fault: fmt.Sprintf("is %s, which the role %q does not allow", taxpayer.Value, name),
			Remedy: "name one that it allows, or add it to allowed_contexts of the role",
		}
	case !of.allows(taxpayer):
		return taxpayer, &client.InputError{
			Field: "taxpayer", Fault: fmt.Sprintf("is %s, which config does not allow", taxpayer.Value),
			Remedy: "add it to allowed_contexts of config",
		}
	}
	return taxpayer, nil
}

// admitRoleTaxpayer refuses a taxpayer that the role or config does not allow, without a login, and
// limits the first logins of those that both let in only through *.
func (b *backend) admitRoleTaxpayer(ctx context.Context, name string, under *role, of func(*config) (client.ContextIdentifier, error)) error {
	current, err := b.connect(ctx)
	if err != nil {
		return err
	}
	taxpayer, err := of(current.config)
	if err != nil || under.isFor(current.config, taxpayer) {
		return err
	}
	if under.handsOutAccess() {
		has, err := b.access.Has(ctx, accessKey(name, taxpayer))
		if err != nil || has {
			return err // nil for a read of what there is
		}
	}
	return b.allowContext(ctx, current, taxpayer, useToIssue)
}
