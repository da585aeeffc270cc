// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/admission"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
)

const (
	fieldAllowedContexts = "allowed_contexts"
	// everyContext in allowed_contexts allows all.
	everyContext = "*"
)

func allowedContextsField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeCommaStringSlice,
		Description: "Contexts that requests may name besides nip or internal_id of config: NIPs, identifiers of internal units, or * for all. " +
			"A role's own context needs no entry. Default: none.",
	}
}

func applyAllowedContexts(next *config, data *framework.FieldData) error {
	raw, given := data.GetOk(fieldAllowedContexts)
	if !given {
		return nil
	}
	allowed := fields.Distinct(raw.([]string))
	for i, value := range allowed {
		if value == everyContext {
			continue
		}
		if _, err := parseContext(value); err != nil {
			return &client.InputError{
				Field: fieldAllowedContexts, Fault: fmt.Sprintf("has at place %d what is no context (%v)", i+1, err),
				Remedy: "give NIPs such as 5265877635, identifiers of internal units such as 5265877635-12346, or *",
			}
		}
	}
	next.AllowedContexts = allowed
	return nil
}

// parseContext reads a NIP or, with a dash, the identifier of an internal unit.
func parseContext(value string) (client.ContextIdentifier, error) {
	if strings.Contains(value, "-") {
		return client.ParseInternalID(value)
	}
	return client.ParseNIP(value)
}

// contextUse is what a request does in the context that it names.
type contextUse int

const (
	// useToIssue makes something new: a token or a login.
	useToIssue contextUse = iota
	// useToManage reads and revokes what there is.
	useToManage
)

// requestContext returns the context that a request names, or else config's own, if it is allowed
// for this use. It sends and stores nothing: a context that is not allowed costs no login.
func (b *backend) requestContext(ctx context.Context, data *framework.FieldData, use contextUse) (*connection, client.ContextIdentifier, error) {
	current, taxpayer, err := b.namedContext(ctx, data, use)
	if err == nil && taxpayer.IsZero() {
		taxpayer = current.config.Context
	}
	return current, taxpayer, err
}

// namedContext is requestContext, but zero if the request names none.
func (b *backend) namedContext(ctx context.Context, data *framework.FieldData, use contextUse) (*connection, client.ContextIdentifier, error) {
	taxpayer, err := contextFrom(data)
	if err != nil {
		return nil, taxpayer, err
	}
	current, err := b.connect(ctx)
	if err != nil || taxpayer.IsZero() {
		return current, taxpayer, err
	}
	return current, taxpayer, b.allowContext(ctx, current, taxpayer, use)
}

// allows reports whether requests may name the context.
func (c *config) allows(taxpayer client.ContextIdentifier) bool {
	return c.names(taxpayer) || c.allowsEvery()
}

// names reports whether config itself names the context.
func (c *config) names(taxpayer client.ContextIdentifier) bool {
	return taxpayer == c.Context || slices.Contains(c.AllowedContexts, taxpayer.Value)
}

func (c *config) allowsEvery() bool { return slices.Contains(c.AllowedContexts, everyContext) }

func (b *backend) allowContext(ctx context.Context, current *connection, taxpayer client.ContextIdentifier, use contextUse) error {
	if current.config.names(taxpayer) {
		return nil
	}
	every := current.config.allowsEvery()
	if every {
		known, err := current.sessions.Known(ctx, taxpayer)
		if err != nil || (known != nil && time.Now().Before(known.Refresh.ValidUntil)) {
			return err
		}
	}
	if use == useToManage {
		open, err := b.openTargets.Has(ctx, ledger.Target{API: current.config.URL, Context: taxpayer})
		if err != nil || open {
			return err
		}
	}
	if !every {
		return notAllowed(taxpayer)
	}
	if current.sessions.RemembersFailure(taxpayer) {
		return nil // the remembered failure costs no login
	}
	pause := b.firstLogins.Admit(taxpayer, current.sessions.FailedAt(taxpayer))
	if pause == 0 {
		return nil
	}
	return &statusError{status: http.StatusTooManyRequests, error: fmt.Errorf(
		"%d first logins have been made within a minute in contexts that %s lets in only through *%s. Contexts that it names do not wait",
		admission.MaxFirstLogins, fieldAllowedContexts, client.NextPermit(time.Now().Add(pause)))}
}

func notAllowed(taxpayer client.ContextIdentifier) error {
	field := "nip"
	if taxpayer.Type == client.ContextInternalID {
		field = "internal_id"
	}
	return &client.InputError{
		Field: field, Fault: "names " + taxpayer.Value + ", which config does not allow",
		Remedy: "add it to allowed_contexts of config, or write a role with it and read creds/<role>",
	}
}
