// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"fmt"
)

// Codes of refusal, as POST /auth/xades-signature documents them.
const (
	CodeUnreadable       = 21001 // nothing to read
	CodeEncoding         = 21217 // not UTF-8
	CodeNotXML           = 9101  // not an XML document, or one beyond the bounds
	CodeNoSignature      = 9102  // no ds:Signature in it
	CodeManySignatures   = 9103  // more than one ds:Signature in it
	CodeInvalidSignature = 9105  // a wrong signature, or not an accepted profile
	CodeCertificate      = 21115 // an unreadable certificate
)

// Error is a refusal. Details are Polish sentences in KSeF's form: the kind first, then the
// technical reason.
type Error struct {
	Code    int
	Details []string
}

// Error returns the code and the details.
func (e *Error) Error() string {
	return fmt.Sprintf("%d: %q", e.Code, e.Details)
}

func refusal(code int, format string, arguments ...any) *Error {
	return &Error{Code: code, Details: []string{fmt.Sprintf(format, arguments...)}}
}

func invalid(kind, format string, arguments ...any) *Error {
	return &Error{Code: CodeInvalidSignature, Details: []string{kind, fmt.Sprintf(format, arguments...)}}
}

// negative is the error for a signature or digest that does not match.
func negative(format string, arguments ...any) *Error {
	return invalid("Podpis zweryfikowany negatywnie.", format, arguments...)
}

// badProfile is the error for a signature outside the accepted XAdES profiles.
func badProfile(format string, arguments ...any) *Error {
	return invalid("Format podpisu niezgodny z akceptowanymi profilami XAdES.", format, arguments...)
}

// badAlgorithm is the error for an algorithm or a key that is not on the list.
func badAlgorithm(format string, arguments ...any) *Error {
	return invalid("Podpis złożony z użyciem niewspieranego algorytmu kryptograficznego.", format, arguments...)
}
