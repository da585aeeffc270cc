// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/fields"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathLogin() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "login/begin",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "begin", OperationSuffix: "login"},
		Fields: fields.WithTaxpayerDefault(fields.TaxpayerOfConfig, map[string]*framework.FieldSchema{
			"subject_identifier_type": {
				Type:          framework.TypeString,
				AllowedValues: []any{xades.CertificateSubject, xades.CertificateFingerprint},
				Description:   "How KSeF is to identify the signer: certificateSubject where the certificate names a NIP or PESEL, certificateFingerprint otherwise. Default: that of config.",
			},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathLoginBegin, "begin", loginBeginSchema()),
		},
		HelpSynopsis:    "Begin a login to KSeF that a person signs.",
		HelpDescription: strings.TrimSpace(helpLoginBegin),
	}, {
		Pattern:      "login/complete",
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "complete", OperationSuffix: "login"},
		Fields: map[string]*framework.FieldSchema{
			"signed_request": {
				Type:        framework.TypeString,
				Required:    true,
				Description: "The answer of login/begin with a XAdES signature, enveloped or enveloping; XML, or base64 of it.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: fields.Forwarded(b.pathLoginComplete, "complete", loginCompleteSchema()),
		},
		HelpSynopsis:    "Complete a login to KSeF with the signed request.",
		HelpDescription: strings.TrimSpace(helpLoginComplete),
	}}
}

// openLogin returns the KSeF of the current configuration for external logins.
func (b *backend) openLogin(ctx context.Context) (*externallogin.Upstream, error) {
	connected, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &externallogin.Upstream{
		API: connected.config.api(), AllowedIPs: connected.config.AllowedIPs, Client: connected.sessions.Auth(), Keep: b.keepLogin,
		Discard: connected.sessions.Discard, Lost: connected.sessions.Lost,
	}, nil
}

func (b *backend) pathLoginBegin(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	connected, taxpayer, err := b.requestContext(ctx, data, useToIssue)
	if err != nil {
		return failure.Response(err)
	}
	subjectType := connected.config.SubjectIdentifierType
	if raw, given := data.GetOk("subject_identifier_type"); given {
		subjectType = raw.(string)
	}
	if subjectType != xades.CertificateSubject && subjectType != xades.CertificateFingerprint {
		return failure.Response(&client.InputError{
			Field: "subject_identifier_type", Fault: "is not known", Remedy: "give certificateSubject or certificateFingerprint",
		})
	}
	if err := connected.config.checkExternalLogin(); err != nil {
		return failure.Response(err)
	}
	warning, err := b.beginWarning(ctx, connected, taxpayer)
	if err != nil {
		return nil, err
	}
	begun, err := b.logins.Begin(ctx, taxpayer, subjectType)
	if err != nil {
		return failure.Response(err)
	}
	b.events.Publish("login-begin", "login/begin", "context", taxpayer.String())
	answer := map[string]any{
		"auth_token_request": string(begun.Document), "challenge": begun.Challenge,
		"subject_identifier_type": subjectType, "valid_until": begun.ValidUntil.Format(time.RFC3339), "client_ip": begun.ClientIP,
	}
	fields.AddTaxpayer(answer, taxpayer)
	response := &logical.Response{Data: answer}
	fields.AddWarnings(response, warning)
	return response, nil
}

func (b *backend) pathLoginComplete(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	document, err := externallogin.Decode(data.Get("signed_request").(string))
	if err != nil {
		return failure.Response(err)
	}
	submitted, err := b.logins.Submit(ctx, document)
	if err != nil {
		return failure.Response(err)
	}
	warning, err := b.warnOfSigner(ctx, submitted)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, longStep)
	defer cancel()
	defer b.maintenance.Wake()
	ended, err := b.logins.Await(bounded, submitted.Challenge)
	if err != nil {
		return failure.Response(err)
	}
	response := &logical.Response{Data: map[string]any{"status": "pending", "reference_number": submitted.ReferenceNumber}}
	fields.AddTaxpayer(response.Data, submitted.Context)
	if signer := submitted.Signer; signer != nil {
		response.Data["signer_identifier_type"], response.Data["signer_identifier"] = signer.IdentifierType, signer.Identifier
		response.Data["signer_name"] = signer.Name
	}
	fields.AddWarnings(response, warning, b.report.FreshWarning())
	if !ended {
		response.AddWarning("KSeF has not decided yet; with a qualified certificate it asks the issuer first, which can take minutes. The engine finishes the login by itself; status shows the result.")
		return response, nil
	}
	if err := b.describeLogin(ctx, submitted, response.Data); err != nil {
		return failure.Response(err)
	}
	return response, nil
}

// describeLogin adds the end of the session.
func (b *backend) describeLogin(ctx context.Context, submitted *externallogin.Submitted, answer map[string]any) error {
	connected, err := b.connect(ctx)
	if err != nil {
		return err
	}
	session, err := connected.sessions.Known(ctx, submitted.Context)
	if err != nil {
		return err
	}
	if session == nil || session.ReferenceNumber != submitted.ReferenceNumber {
		return &client.InputError{
			Field: "signed_request", Fault: "has led to the login " + submitted.ReferenceNumber + ", which another login has replaced or ended",
			Remedy: "read status for the current login",
		}
	}
	answer["status"] = "active"
	answer["session_until"] = session.Refresh.ValidUntil.UTC().Format(time.RFC3339)
	return nil
}

// warnOfSigner warns of tokens in the context that another subject has made.
func (b *backend) warnOfSigner(ctx context.Context, submitted *externallogin.Submitted) (string, error) {
	connected, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	before, err := connected.subject(ctx, submitted.Context)
	if err != nil || before == "" || submitted.Signer == nil || submitted.Signer.Subject() == before {
		return "", err
	}
	open, err := b.ledger.CountOpen(ctx)
	if err != nil || !open.Any() {
		return "", err
	}
	return otherSigner(leftBehind(open)), nil
}

// loginStatus returns the external logins for status.
func (b *backend) loginStatus(ctx context.Context) ([]map[string]any, error) {
	states, err := b.logins.States(ctx)
	if err != nil {
		return nil, err
	}
	shown := make([]map[string]any, 0, len(states))
	for _, state := range states {
		one := map[string]any{"status": "begun", "since": state.Began.Format(time.RFC3339)}
		fields.AddTaxpayer(one, state.Context)
		switch {
		case state.Failure != "":
			one["status"], one["reference_number"], one["error"] = "failed", state.ReferenceNumber, state.Failure
		case state.ReferenceNumber != "":
			one["status"], one["reference_number"] = "pending", state.ReferenceNumber
			if state.Err != nil {
				one["last_error"] = state.Err.Error()
			}
		default:
			one["valid_until"] = state.ValidUntil.Format(time.RFC3339)
		}
		shown = append(shown, one)
	}
	return shown, nil
}

// pendingLogin states which login KSeF has not decided yet, or returns an empty text.
func (b *backend) pendingLogin(ctx context.Context, taxpayer client.ContextIdentifier) (string, error) {
	pending, err := b.pendingReference(ctx, taxpayer)
	if pending == "" {
		return "", err
	}
	return "There is no login to KSeF yet: it has still to decide the login " + pending + ", which the engine finishes by itself. Nothing need be signed again.", err
}

// undecidedLogin returns an error if KSeF has not decided the taxpayer's login yet, and nil if that
// is unknown.
func (b *backend) undecidedLogin(ctx context.Context, taxpayer client.ContextIdentifier) error {
	pending, err := b.pendingReference(ctx, taxpayer)
	if err != nil || pending == "" {
		return nil //nolint:nilerr // what is said then is true with and without one
	}
	return &client.InputError{
		Field: "login", Fault: "is still to be decided by KSeF in " + taxpayer.String() + ", as " + pending,
		Remedy: "ask again when status shows no pending login: the engine finishes it by itself, and nothing need be signed again",
	}
}

func (b *backend) pendingReference(ctx context.Context, taxpayer client.ContextIdentifier) (string, error) {
	states, err := b.logins.States(ctx)
	for _, state := range states {
		if state.Context == taxpayer && state.ReferenceNumber != "" && state.Failure == "" {
			return state.ReferenceNumber, err
		}
	}
	return "", err
}

func loginBeginSchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"auth_token_request":      {Type: framework.TypeString, Description: "The XML to be signed without any change."},
		"challenge":               {Type: framework.TypeString, Description: "KSeF's challenge in it."},
		"subject_identifier_type": {Type: framework.TypeString, Description: "How KSeF identifies the signer."},
		"valid_until":             {Type: framework.TypeTime, Description: "When login/complete must have received it at the latest."},
		"client_ip":               {Type: framework.TypeString, Description: "The address from which KSeF sees Vault."},
	}))
}

func loginCompleteSchema() map[int][]framework.Response {
	return fields.ResponseSchema(fields.WithTaxpayer(map[string]*framework.FieldSchema{
		"status":                 {Type: framework.TypeString, Description: "active, or pending while the engine finishes the login by itself."},
		"reference_number":       {Type: framework.TypeString, Description: "KSeF's number of the login."},
		"session_until":          {Type: framework.TypeTime, Description: "When the login ends; only a person can repeat it."},
		"signer_identifier_type": {Type: framework.TypeString, Description: "Nip, Pesel or Fingerprint."},
		"signer_identifier":      {Type: framework.TypeString, Description: "The signer's identifier, as KSeF knows it."},
		"signer_name":            {Type: framework.TypeString, Description: "Common name in the certificate."},
	}))
}

const helpLoginBegin = `
Begin a login that a person signs outside of Vault, with a card or a cloud
signature. No key file is needed. Any program for XAdES signatures can be used:

  vault write -field=auth_token_request ksef/login/begin nip=5265877635 > request.xml
  # sign request.xml as XAdES, enveloped or enveloping; save signed.xml
  vault write ksef/login/complete signed_request=@signed.xml

The request is valid for ten minutes and must be signed without any change. config
needs no certificate for this. Several contexts can be logged in at once; name them
in allowed_contexts of config.
`

const helpLoginComplete = `
Complete a login with the signed request. The session lasts for seven days. With a
qualified certificate KSeF asks the issuer first. If that takes longer than a
request may last, the response has status=pending, and the engine finishes the
login by itself.

KSeF returns a session once. If its response is lost, begin again with login/begin.

Then write to config/rotate-root: a KSeF certificate with a key made in Vault
replaces the person's signature.
`
