// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/rotation"

	"github.com/hashicorp/vault/sdk/framework"
)

// Bounds of request_timeout and activation_timeout. Vault gives a request 90
// seconds; what is left over is for the login and for KSeF's limits.
const (
	minRequestTimeout    = time.Second
	maxRequestTimeout    = 60 * time.Second
	maxActivationTimeout = 60 * time.Second
)

// applyConfig returns what config becomes when the fields are written to it:
// those that are not given stay as they are. given is the credential among them,
// nil for none. Errors are the user's mistakes.
func applyConfig(current *config, data *framework.FieldData, given *credential.Credential) (*config, error) {
	next := config{
		Version:               configVersion,
		SubjectIdentifierType: xades.CertificateSubject,
		RequestTimeout:        client.DefaultRequestTimeout,
		ActivationTimeout:     defaultActivationTimeout,
		RenewBefore:           defaultRenewBefore,
		KeyType:               rotation.KeyP256,
		CertificateName:       defaultCertificateName,
	}
	if current != nil {
		next = *current
	}
	if err := applyAddress(&next, data); err != nil {
		return nil, err
	}
	if err := bindCredential(current, &next, data); err != nil {
		return nil, err
	}
	if err := applyTimeouts(&next, data); err != nil {
		return nil, err
	}
	held, err := applyCredential(&next, given)
	if err != nil {
		return nil, err
	}
	if err := applyContext(&next, data, held); err != nil {
		return nil, err
	}
	if err := applyAllowedContexts(&next, data); err != nil {
		return nil, err
	}
	if err := applySubjectType(&next, data, held); err != nil {
		return nil, err
	}
	if err := applyRenewal(&next, data); err != nil {
		return nil, err
	}
	return &next, nil
}

func applyAddress(next *config, data *framework.FieldData) error {
	environment, hasEnvironment := data.GetOk("environment")
	url, hasURL := data.GetOk("url")
	switch {
	case hasEnvironment && hasURL:
		return &client.InputError{Field: "url", Fault: "is given together with environment", Remedy: "give one of them"}
	case hasEnvironment:
		address, known := environments()[environment.(string)]
		if !known {
			return &client.InputError{
				Field: "environment", Fault: "is not known",
				Remedy: "give test, demo or production, or an address in url",
			}
		}
		next.URL = address
	case hasURL:
		address, err := client.ParseURL(url.(string))
		if err != nil {
			return err
		}
		next.URL = address
	case next.URL == "":
		return &client.InputError{Field: "environment", Fault: "is missing", Remedy: "give test, demo or production, or an address in url"}
	}
	next.Environment = environmentOf(next.URL)
	if ca, given := data.GetOk(fieldCACertificate); given {
		next.CACertificate = ca.(string)
	}
	return nil
}

func applyTimeouts(next *config, data *framework.FieldData) error {
	if raw, given := data.GetOk("request_timeout"); given {
		next.RequestTimeout = time.Duration(raw.(int)) * time.Second
		if next.RequestTimeout < minRequestTimeout || next.RequestTimeout > maxRequestTimeout {
			return &client.InputError{Field: "request_timeout", Fault: "is out of range", Remedy: "give 1s to 60s"}
		}
	}
	if raw, given := data.GetOk("activation_timeout"); given {
		next.ActivationTimeout = time.Duration(raw.(int)) * time.Second
		if next.ActivationTimeout < 0 || next.ActivationTimeout > maxActivationTimeout {
			return &client.InputError{Field: "activation_timeout", Fault: "is out of range", Remedy: "give 0 (do not wait) to 60s"}
		}
	}
	return nil
}

// applyCredential returns nil where there is none: then a person signs logins.
func applyCredential(next *config, given *credential.Credential) (*credential.Credential, error) {
	if given == nil {
		return next.credential()
	}
	var err error
	if next.Certificate, next.PrivateKey, err = given.PEM(); err != nil {
		return nil, err
	}
	next.SubjectIdentifierType = given.Identity.SubjectIdentifierType()
	return given, nil
}

// readCredential reads the credential that the fields hold; nil where they hold
// none. That can take a second, so it is done before anything is locked, and for
// one request at a time.
func (b *backend) readCredential(ctx context.Context, data *framework.FieldData) (*credential.Credential, error) {
	if !givesCredential(data) {
		return nil, nil
	}
	if err := b.parsing.Take(ctx); err != nil {
		return nil, err
	}
	defer b.parsing.Release()
	source := credential.Source{
		Certificate:        data.Get("certificate").(string),
		PrivateKey:         data.Get("private_key").(string),
		PrivateKeyPassword: password(data, "private_key_password"),
		PKCS12Password:     password(data, "pkcs12_password"),
	}
	if raw := data.Get("pkcs12").(string); raw != "" {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(raw), ""))
		if err != nil {
			return nil, &client.InputError{Field: "pkcs12", Fault: "is not base64", Remedy: "give the output of: base64 -w0 file.p12"}
		}
		source.PKCS12 = decoded
	}
	return credential.Parse(source, time.Now())
}

// password leaves out the end of the line that an editor puts into a file.
func password(data *framework.FieldData, field string) string {
	return strings.TrimSuffix(strings.TrimSuffix(data.Get(field).(string), "\n"), "\r")
}

// applyContext falls back on the certificate's own NIP: a company's seal logs
// in to the company's context.
func applyContext(next *config, data *framework.FieldData, held *credential.Credential) error {
	given, err := contextFrom(data)
	if err != nil {
		return err
	}
	switch {
	case !given.IsZero():
		next.Context = given
	case !next.Context.IsZero():
	case held == nil:
		return &client.InputError{
			Field: "nip", Fault: "is missing, and there is no certificate that could name one",
			Remedy: "give nip or internal_id: the taxpayer in whose context tokens are made",
		}
	case held.Identity.IdentifierType == credential.IdentifierNIP:
		if next.Context, err = client.ParseNIP(held.Identity.Identifier); err != nil {
			return fmt.Errorf("the certificate's own NIP cannot be the default context: %w", err)
		}
	default:
		return &client.InputError{
			Field: "nip", Fault: "is missing, and the certificate names no NIP",
			Remedy: "give nip or internal_id: the taxpayer in whose context tokens are made",
		}
	}
	return nil
}

func applySubjectType(next *config, data *framework.FieldData, held *credential.Credential) error {
	raw, given := data.GetOk("subject_identifier_type")
	if !given {
		return nil
	}
	next.SubjectIdentifierType = raw.(string)
	switch next.SubjectIdentifierType {
	case xades.CertificateFingerprint:
		return nil
	case xades.CertificateSubject:
		if held == nil || held.Identity.SubjectIdentifierType() == xades.CertificateSubject {
			return nil
		}
		return &client.InputError{
			Field: "subject_identifier_type", Fault: "is certificateSubject, but the certificate's subject has neither NIP nor PESEL",
			Remedy: "give certificateFingerprint, and grant the certificate's fingerprint a permission in KSeF",
		}
	}
	return &client.InputError{
		Field: "subject_identifier_type", Fault: "is not known",
		Remedy: "give certificateSubject or certificateFingerprint",
	}
}

// contextFrom reads nip and internal_id, of which at most one may be given. It
// returns the zero context where neither is.
func contextFrom(data *framework.FieldData) (client.Context, error) {
	nip, hasNIP := data.GetOk("nip")
	internalID, hasInternalID := data.GetOk("internal_id")
	switch {
	case hasNIP && hasInternalID:
		return client.Context{}, &client.InputError{Field: "internal_id", Fault: "is given together with nip", Remedy: "give one of them"}
	case hasNIP:
		return client.ParseNIP(nip.(string))
	case hasInternalID:
		return client.ParseInternalID(internalID.(string))
	}
	return client.Context{}, nil
}
