// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"regexp"
	"strings"
)

// ContextType is the kind of identifier in whose context a login happens.
type ContextType string

// The types of context in which KSeF makes tokens (codeContextWithoutToken refuses others).
const (
	ContextNIP        ContextType = "Nip"
	ContextInternalID ContextType = "InternalId"
)

// ContextIdentifier is whose invoices a session or token is about.
type ContextIdentifier struct {
	Type  ContextType `json:"type"`
	Value string      `json:"value"`
}

// String is "Nip:5265877635", the form in which contexts key storage and limits.
func (c ContextIdentifier) String() string { return string(c.Type) + ":" + c.Value }

// IsZero says that no context was given.
func (c ContextIdentifier) IsZero() bool { return c == ContextIdentifier{} }

// NIP is the taxpayer number of the context's owner; both types begin with it.
func (c ContextIdentifier) NIP() string {
	nip, _, _ := strings.Cut(c.Value, "-")
	return nip
}

// What nipFault allows of these is the patterns of KSeF's schema (types TNIP and TIID).
var (
	tenDigits         = regexp.MustCompile(`^\d{10}$`)
	internalIDPattern = regexp.MustCompile(`^\d{10}-\d{5}$`)
)

// ParseNIP checks a taxpayer number: ten digits, the last of them a checksum.
func ParseNIP(value string) (ContextIdentifier, error) {
	if !tenDigits.MatchString(value) {
		return ContextIdentifier{}, &InputError{Field: "nip", Fault: "is not ten digits", Remedy: "give the ten digits without dashes or a country code"}
	}
	if fault := nipFault(value); fault != "" {
		return ContextIdentifier{}, &InputError{Field: "nip", Fault: fault, Remedy: "check the number for a typing error"}
	}
	return ContextIdentifier{Type: ContextNIP, Value: value}, nil
}

// nipFault says why ten digits are no NIP to KSeF; "" where they are one.
func nipFault(digits string) string {
	switch {
	case digits[0] == '0':
		return "begins with 0, as no NIP does"
	case digits[1:3] == "00":
		return "has 0 in the second and in the third place, as no NIP has"
	case !validNIP(digits):
		return "has a wrong checksum"
	}
	return ""
}

// ParseInternalID checks the identifier of an internal unit: a NIP, a dash and five digits, the
// last of them a checksum.
func ParseInternalID(value string) (ContextIdentifier, error) {
	if !internalIDPattern.MatchString(value) {
		return ContextIdentifier{}, &InputError{Field: "internal_id", Fault: "is not a NIP, a dash and five digits", Remedy: "give it as KSeF shows it, such as 5265877635-12346"}
	}
	if fault := nipFault(value[:10]); fault != "" {
		return ContextIdentifier{}, &InputError{Field: "internal_id", Fault: "begins with a NIP that " + fault, Remedy: "check the number for a typing error"}
	}
	if !validInternalID(value) {
		return ContextIdentifier{}, &InputError{Field: "internal_id", Fault: "has a wrong last digit, which is a checksum", Remedy: "check the number for a typing error"}
	}
	return ContextIdentifier{Type: ContextInternalID, Value: value}, nil
}

// validNIP weighs the first nine digits and compares their sum modulo 11 with the tenth.
func validNIP(nip string) bool {
	sum := 0
	for i, weight := range [...]int{6, 5, 7, 2, 3, 4, 5, 6, 7} {
		sum += weight * int(nip[i]-'0')
	}
	return sum%11 == int(nip[9]-'0')
}

// validInternalID weighs all digits but the last with 1 and 3 in turn, modulo 10 (KSeF's OpenAPI,
// granting of rights to a subunit's administrator).
func validInternalID(id string) bool {
	digits := strings.Replace(id, "-", "", 1)
	last := len(digits) - 1
	sum := 0
	for i := range last {
		sum += int(digits[i]-'0') * (1 + 2*(i%2))
	}
	return sum%10 == int(digits[last]-'0')
}
