// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/admission"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/failure"
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

func applyAllowedContexts(next *config, data *framework.FieldData) (err error) {
	next.AllowedContexts, err = allowedContextsFrom(data, next.AllowedContexts)
	return err
}

// allowedContextsFrom reads the field, in the given order and without duplicates.
func allowedContextsFrom(data *framework.FieldData, otherwise []string) ([]string, error) {
	raw, given := data.GetOk(fieldAllowedContexts)
	if !given {
		return otherwise, nil
	}
	allowed := fields.Distinct(raw.([]string))
	for i, value := range allowed {
		if value == everyContext {
			continue
		}
		if _, err := parseContext(value); err != nil {
			return nil, &client.InputError{
				Field: fieldAllowedContexts, Fault: fmt.Sprintf("has at place %d what is no context (%v)", i+1, err),
				Remedy: "give NIPs such as 5265877635, identifiers of internal units such as 5265877635-12346, or *",
			}
		}
	}
	return allowed, nil
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
		if err != nil || known.IsAlive() {
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
	return failure.WithStatus(http.StatusTooManyRequests, fmt.Errorf(
		"%d first logins have been made within a minute in contexts that %s lets in only through *%s. Contexts that it names do not wait",
		admission.MaxFirstLogins, fieldAllowedContexts, client.NextPermit(time.Now().Add(pause))))
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

// admitSigner refuses an external login for a taxpayer that config no longer allows, and one as
// another subject that would replace the certificate's for seven days. Where that matters the
// signature must name its signer.
func (b *backend) admitSigner(ctx context.Context, taxpayer client.ContextIdentifier, signer *credential.Identity) error {
	connected, err := b.connect(ctx)
	if err != nil {
		return err
	}
	if !connected.config.allows(taxpayer) {
		return notAllowed(taxpayer)
	}
	subject := ""
	if signer != nil {
		subject = signer.Subject()
	}
	return b.guardLogin(ctx, connected, taxpayer, subject)
}

// guardLogin refuses an external login where the certificate's is needed; subject is "" where the
// signature does not name its signer. It is called again when KSeF has decided, which can take most
// of an hour: config may have been given a certificate in that time.
func (b *backend) guardLogin(ctx context.Context, connected *connection, taxpayer client.ContextIdentifier, subject string) error {
	own := connected.sessions.Subject
	if subject != "" && (own == "" || subject == own) {
		return nil
	}
	guarded, subjects, err := b.needsCertificate(ctx, connected, taxpayer)
	if err != nil {
		return err
	}
	switch {
	case subject == "" && (guarded || len(subjects) > 0):
		return &client.InputError{
			Field: "signed_request", Fault: "does not tell who has signed it: its SigningCertificate, or SigningCertificateV2, names no certificate in its KeyInfo, or more than one",
			Remedy: "sign as XAdES, with the signer's certificate alone in KeyInfo",
		}
	case guarded:
		return &client.InputError{
			Field: "signed_request", Fault: "is signed by " + subject + ", and config has the certificate of " + own + ", which logs in by itself",
			Remedy: "have it signed by that subject, or write the other's certificate to config, or delete config and write it without one",
		}
	}
	return nil
}

// needsCertificate says whether the mount itself logs in in the context with config's certificate,
// and which subjects have made tokens there that may be alive.
func (b *backend) needsCertificate(ctx context.Context, connected *connection, taxpayer client.ContextIdentifier) (guarded bool, subjects []string, err error) {
	all, err := b.ledger.Subjects(ctx, connected.config.URL)
	if err != nil {
		return false, nil, err
	}
	subjects = all[taxpayer]
	switch own := connected.sessions.Subject; {
	case own == "":
		return false, subjects, nil
	case taxpayer == connected.config.Context, slices.Contains(subjects, own):
		return true, subjects, nil
	}
	guarded, err = b.isContextOfRole(ctx, connected.config, taxpayer)
	return guarded, subjects, err
}

// beginWarning says at the beginning of a login what guardLogin will refuse at its end; "" for
// nothing.
func (b *backend) beginWarning(ctx context.Context, connected *connection, taxpayer client.ContextIdentifier) (string, error) {
	own := connected.sessions.Subject
	if own == "" {
		return "", nil
	}
	guarded, _, err := b.needsCertificate(ctx, connected, taxpayer)
	if err != nil || !guarded {
		return "", err
	}
	return fmt.Sprintf("config has the certificate of %s, which logs in in %s by itself: login/complete will refuse this request unless %s signs it. "+
		"For another to log in there, write that one's certificate to config, or delete config and write it without one.", own, taxpayer, own), nil
}

// otherSubjectWarning warns of an external login for a new role's own taxpayer: it continues to be
// used. "" where the certificate's is used, or there is none.
func (b *backend) otherSubjectWarning(ctx context.Context, taxpayer client.ContextIdentifier) (string, error) {
	current := b.connection.get()
	if current == nil || taxpayer.IsZero() || current.sessions.Subject == "" {
		return "", nil
	}
	subject, err := current.subject(ctx, taxpayer)
	if err != nil || subject == current.sessions.Subject {
		return "", err
	}
	return fmt.Sprintf("In %s the login that %s has signed is used, not that of config's certificate: the role's tokens are made by that subject until "+
		"the login ends (refresh_until in status). To end it at once, have its owner revoke it in KSeF.", taxpayer, subject), nil
}

// isContextOfRole says that a role's tokens live in the context.
func (b *backend) isContextOfRole(ctx context.Context, of *config, taxpayer client.ContextIdentifier) (bool, error) {
	names, err := b.storage.List(ctx, rolesPrefix)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		stored, err := b.readRole(ctx, b.storage, name)
		if errors.Is(err, errUnreadableRole) {
			return true, nil // it may be the role's
		}
		if err != nil {
			return false, err
		}
		if stored != nil && stored.isFor(of, taxpayer) {
			return true, nil
		}
	}
	return false, nil
}

// hasOtherSubject says that another than the subject has made a token that may be alive, in
// whatever context.
func (b *backend) hasOtherSubject(ctx context.Context, api, subject string) (bool, error) {
	subjects, err := b.ledger.Subjects(ctx, api)
	if err != nil {
		return false, err
	}
	for _, made := range subjects {
		if slices.ContainsFunc(made, func(maker string) bool { return maker != "" && maker != subject }) {
			return true, nil
		}
	}
	return false, nil
}
