// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ksef has the values that KSeF writes and reads everywhere: identifiers of taxpayers and
// persons, permissions, and reference numbers.
package ksef

import (
	"regexp"
	"strings"
)

// Identifier is a taxpayer, a person, a certificate or a login context, as KSeF's JSON has it.
type Identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// WellFormed reports whether a context has a known type and a value of its pattern.
func (i Identifier) WellFormed() bool {
	pattern, known := contextPatterns[i.Type]
	return known && pattern.MatchString(i.Value)
}

// Valid reports whether the checksums in a well-formed context are right.
func (i Identifier) Valid() bool {
	switch i.Type {
	case TypeInternalID:
		return ValidNIP(i.NIP()) && validInternalID(i.Value)
	case TypePeppolID:
		return true
	}
	return ValidNIP(i.NIP())
}

// Correct reports whether an identifier of any type has a valid value.
func (i Identifier) Correct() bool {
	if pattern, subject := subjectPatterns[i.Type]; subject {
		return pattern.MatchString(i.Value)
	}
	return i.WellFormed() && i.Valid()
}

// NIP returns the NIP of a context, or "" when it has none.
func (i Identifier) NIP() string {
	if i.Type == TypePeppolID {
		return ""
	}
	nip, _, _ := strings.Cut(i.Value, "-")
	return nip
}

// Owns reports whether a subject is the context's taxpayer or Peppol provider.
func (i Identifier) Owns(context Identifier) bool {
	if i.Type == TypePeppolID {
		return i == context
	}
	return i.Type == TypeNIP && i.Value == context.NIP()
}

// Types of identifiers. A context is a Nip, InternalId, NipVatUe or PeppolId. The author of a token
// is a Nip, Pesel or Fingerprint. A Peppol provider logs in as its PeppolId.
const (
	TypeNIP         = "Nip"
	TypeInternalID  = "InternalId"
	TypeNIPVatUE    = "NipVatUe"
	TypePeppolID    = "PeppolId"
	TypePESEL       = "Pesel"
	TypeFingerprint = "Fingerprint"
)

// The patterns of schemat_auth_v2-1.xsd, which splits that of NipVatUe further.
const (
	PeppolPattern = `^P[A-Z]{2}[0-9]{6}$`
	nipPattern    = `[1-9](\d[1-9]|[1-9]\d)\d{7}`
	vatUEPattern  = `(ATU\d{8}|BE[01]\d{9}|BG\d{9,10}|CY\d{8}[A-Z]|CZ\d{8,10}|DE\d{9}|DK\d{8}|EE\d{9}|EL\d{9}` +
		`|ES([A-Z]\d{8}|\d{8}[A-Z]|[A-Z]\d{7}[A-Z])|FI\d{8}|FR[A-Z0-9]{2}\d{9}|HR\d{11}|HU\d{8}` +
		`|IE(\d{7}[A-Z]{2}|\d[A-Z0-9+*]\d{5}[A-Z])|IT\d{11}|LT(\d{9}|\d{12})|LU\d{8}|LV\d{11}|MT\d{8}` +
		`|NL[A-Z0-9+*]{12}|PT\d{9}|RO\d{2,10}|SE\d{12}|SI\d{8}|SK\d{10}|XI(\d{9}|\d{12}|(GD|HA)\d{3}))`
)

var contextPatterns = map[string]*regexp.Regexp{
	TypeNIP:        regexp.MustCompile("^" + nipPattern + "$"),
	TypeInternalID: regexp.MustCompile("^" + nipPattern + `-\d{5}$`),
	TypeNIPVatUE:   regexp.MustCompile("^" + nipPattern + "-" + vatUEPattern + "$"),
	TypePeppolID:   regexp.MustCompile(PeppolPattern),
}

// PeselPattern is that of Pesel in the OpenAPI. The last digit is not checked.
var PeselPattern = regexp.MustCompile(`^\d{2}` +
	`(0[1-9]|1[0-2]|2[1-9]|3[0-2]|4[1-9]|5[0-2]|6[1-9]|7[0-2]|8[1-9]|9[0-2])\d{7}$`)

// subjectPatterns are those of subjects that cannot be contexts.
var subjectPatterns = map[string]*regexp.Regexp{
	TypePESEL:       PeselPattern,
	TypeFingerprint: regexp.MustCompile(`^[0-9A-F]{64}$`),
}

// ValidNIP checks the tenth digit of a NIP: the others, weighted, modulo 11.
func ValidNIP(nip string) bool {
	if !contextPatterns[TypeNIP].MatchString(nip) {
		return false
	}
	return NIPCheckDigit(nip[:9]) == int(nip[9]-'0')
}

// NIPCheckDigit returns the tenth digit for the first nine, or 10 when no NIP has them.
func NIPCheckDigit(nine string) int {
	sum := 0
	for i, weight := range []int{6, 5, 7, 2, 3, 4, 5, 6, 7} {
		sum += weight * int(nine[i]-'0')
	}
	return sum % 11
}

// validInternalID checks the last digit as KSeF's OpenAPI describes it for internal units: the
// others, weighted 1, 3, 1, 3 and so on, modulo 10.
func validInternalID(id string) bool {
	digits := strings.ReplaceAll(id, "-", "")
	last := len(digits) - 1
	sum := 0
	for i := range last {
		sum += int(digits[i]-'0') * (1 + 2*(i%2))
	}
	return sum%10 == int(digits[last]-'0')
}

// System returns KSeF as the author of a grant.
func System() Identifier { return Identifier{Type: "System"} }
