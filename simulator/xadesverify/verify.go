// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package xadesverify verifies XAdES signatures as KSeF does, and more strictly where KSeF's rules
// are not known.
//
// It shares no code with any signer. It accepts enveloped and enveloping signatures, not detached
// ones. It requires two references: exactly one to the signed document, and exactly one of the type
// SignedProperties to the properties of this signature. The returned content is exactly what the
// digest covers.
//
// Beyond KSeF's documented rules it refuses SHA-1, RSA keys above 8192 bits, XPointer references,
// InclusiveNamespaces with #default, and what package xmltree does not read.
package xadesverify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"time"

	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

// Document is a signed document with a verified signature.
type Document struct {
	Content     *etree.Element    // the signed root element without its signature and without a parent
	Certificate *x509.Certificate // the signer's, checked neither for validity nor for trust
	SigningTime time.Time         // as the signer says
}

// Verify reads a signed document and verifies its signature. The SigningTime may be at most
// tolerance after now. Every error is an *Error.
func Verify(data []byte, now time.Time, tolerance time.Duration) (*Document, error) {
	document, refused := verify(data, now.Add(tolerance))
	if refused != nil {
		return nil, refused
	}
	return document, nil
}

func verify(data []byte, latest time.Time) (*Document, *Error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, refusal(CodeUnreadable, "Dokument jest pusty.")
	}
	root, err := xmltree.Parse(data)
	if errors.Is(err, xmltree.ErrEncoding) {
		return nil, refusal(CodeEncoding, "Dokument musi być zapisany w UTF-8.")
	}
	if err != nil {
		return nil, refusal(CodeNotXML, "Dokument nie jest akceptowanym dokumentem XML: %v.", err)
	}
	s, refused := newSignature(root)
	if refused != nil {
		return nil, refused
	}
	signed, refused := newProperties(s)
	if refused != nil {
		return nil, refused
	}
	content, refused := s.verifyReferences(signed.element)
	if refused != nil {
		return nil, refused
	}
	if refused := s.verifyValue(); refused != nil {
		return nil, refused
	}
	if signed.signingTime.After(latest) {
		return nil, badProfile("Czas podpisu %s leży w przyszłości.", signed.signingTime.UTC().Format(time.RFC3339))
	}
	return &Document{Content: content, Certificate: s.leaf, SigningTime: signed.signingTime}, nil
}
