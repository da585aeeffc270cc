// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package xades makes and signs the AuthTokenRequest of a login to KSeF. The signature is
// enveloped, XAdES-BES and compatible with BASELINE-B.
package xades

import (
	"fmt"
	"regexp"
)

// The types of context that can have tokens, as the request names them.
const (
	ContextNIP        = "Nip"
	ContextInternalID = "InternalId"
)

// How KSeF identifies the signer: by the subject of the certificate, or by its SHA-256 fingerprint
// if the subject has no Polish identifier.
const (
	CertificateSubject     = "certificateSubject"
	CertificateFingerprint = "certificateFingerprint"
)

// Context identifies the taxpayer of the login.
type Context struct {
	// Type is ContextNIP or ContextInternalID.
	Type string
	// Value is a NIP (ten digits) or an internal identifier (NIP, dash, five digits).
	Value string
}

// Request is the content of a login request.
type Request struct {
	// Challenge is KSeF's challenge of 36 characters.
	Challenge string
	Context   Context
	// SubjectIdentifierType is CertificateSubject or CertificateFingerprint.
	SubjectIdentifierType string
	// AllowedIPs binds the access tokens of the login to addresses.
	AllowedIPs AllowedIPs
}

// The patterns of KSeF's schema. They allow only texts that need no escaping in XML, so body
// returns canonical XML.
var (
	challengePattern  = regexp.MustCompile(`^\d{8}-CR-[A-F0-9]{10}-[A-F0-9]{10}-[A-F0-9]{2}$`)
	nipPattern        = regexp.MustCompile(`^[1-9]((\d[1-9])|([1-9]\d))\d{7}$`)
	internalIDPattern = regexp.MustCompile(`^[1-9]((\d[1-9])|([1-9]\d))\d{7}-\d{5}$`)
)

const (
	declaration = `<?xml version="1.0" encoding="UTF-8"?>`
	rootStart   = `<AuthTokenRequest xmlns="http://ksef.mf.gov.pl/auth/token/2.0">`
	rootEnd     = `</AuthTokenRequest>`
)

// Document returns the unsigned request, to be signed elsewhere: compact UTF-8 XML, valid against
// KSeF's schema of AuthTokenRequest 2.0. An error names the value that violates the schema.
func (r Request) Document() ([]byte, error) {
	body, err := r.body()
	if err != nil {
		return nil, err
	}
	return []byte(declaration + rootStart + body + rootEnd), nil
}

// body returns the content of the root element, in canonical form.
func (r Request) body() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	return `<Challenge>` + r.Challenge + `</Challenge>` +
		`<ContextIdentifier><` + r.Context.Type + `>` + r.Context.Value + `</` + r.Context.Type + `></ContextIdentifier>` +
		`<SubjectIdentifierType>` + r.SubjectIdentifierType + `</SubjectIdentifierType>` +
		r.AllowedIPs.element(), nil
}

func (r Request) validate() error {
	if !challengePattern.MatchString(r.Challenge) {
		return fmt.Errorf("challenge %q is not of the form that KSeF gives out", r.Challenge)
	}
	if r.SubjectIdentifierType != CertificateSubject && r.SubjectIdentifierType != CertificateFingerprint {
		return fmt.Errorf("subject identifier type %q is neither %s nor %s", r.SubjectIdentifierType, CertificateSubject, CertificateFingerprint)
	}
	if err := r.AllowedIPs.validate(); err != nil {
		return err
	}
	return r.Context.validate()
}

func (c Context) validate() error {
	pattern, known := map[string]*regexp.Regexp{ContextNIP: nipPattern, ContextInternalID: internalIDPattern}[c.Type]
	if !known {
		return fmt.Errorf("context type %q is neither %s nor %s", c.Type, ContextNIP, ContextInternalID)
	}
	if !pattern.MatchString(c.Value) {
		return fmt.Errorf("context %q is not a valid %s", c.Value, c.Type)
	}
	return nil
}
