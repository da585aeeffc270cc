// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"regexp"
	"strings"

	"vault-plugin-secrets-ksef/client/xades"
)

// Kind is how KSeF classifies the holder of a certificate.
type Kind string

// The kinds of holder.
const (
	// KindSeal is a company, identified by the NIP in organizationIdentifier.
	KindSeal Kind = "seal"
	// KindPerson is a person, identified by the PESEL or NIP in serialNumber.
	KindPerson Kind = "person"
	// KindFingerprint is the holder of a certificate with neither, identified by its fingerprint.
	KindFingerprint Kind = "fingerprint"
)

// The types of identifier, as KSeF names them.
const (
	IdentifierNIP         = "Nip"
	IdentifierPESEL       = "Pesel"
	IdentifierFingerprint = "Fingerprint"
)

// Identity is how KSeF identifies the holder of a certificate.
type Identity struct {
	Kind Kind `json:"kind"`
	// IdentifierType is IdentifierNIP, IdentifierPESEL or IdentifierFingerprint.
	IdentifierType string `json:"identifier_type"`
	// Identifier is ten digits, eleven digits, or the SHA-256 of the certificate in upper-case
	// hexadecimal.
	Identifier string `json:"identifier"`
	// Name is the subject's common name.
	Name string `json:"name"`
}

// Subject is the identity in one word, such as "Nip:5265877635". KSeF treats certificates with the
// same Subject alike.
func (i Identity) Subject() string { return i.IdentifierType + ":" + i.Identifier }

// SubjectIdentifierType is how a login with the certificate asks KSeF to identify the signer:
// xades.CertificateSubject or xades.CertificateFingerprint.
func (i Identity) SubjectIdentifierType() string {
	if i.Kind == KindFingerprint {
		return xades.CertificateFingerprint
	}
	return xades.CertificateSubject
}

// The forms of identifiers in certificates. Real ones have text before and after the number, so the
// first number after the prefix counts (KSeF's documentation, auth/podpis-xades.md).
var (
	sealNIP     = regexp.MustCompile(`VATPL.*?(\d{10})`)
	personPESEL = regexp.MustCompile(`(?:PNOPL|PESEL).*?(\d{11})`)
	personNIP   = regexp.MustCompile(`(?:TINPL|NIP).*?(\d{10})`)
	// A certificate that KSeF issues to a subject known by a fingerprint has that fingerprint.
	// KSeF's documentation names the attribute, but not its content.
	foreignFingerprint = regexp.MustCompile(`^([0-9A-Fa-f]{64})$`)
)

const (
	oidSurname                = "2.5.4.4"
	oidSerialNumber           = "2.5.4.5"
	oidGivenName              = "2.5.4.42"
	oidUniqueIdentifier       = "2.5.4.45"
	oidOrganizationIdentifier = "2.5.4.97"
)

// Identify applies KSeF's rules: a company's certificate has no names of a person, and a
// certificate without a Polish number is identified by its fingerprint.
func Identify(certificate *x509.Certificate) Identity {
	name := certificate.Subject.CommonName
	isPerson := len(values(certificate, oidGivenName))+len(values(certificate, oidSurname)) > 0
	if nip := number(sealNIP, values(certificate, oidOrganizationIdentifier)); nip != "" && !isPerson {
		return Identity{KindSeal, IdentifierNIP, nip, name}
	}
	serials := values(certificate, oidSerialNumber)
	if pesel := number(personPESEL, serials); pesel != "" {
		return Identity{KindPerson, IdentifierPESEL, pesel, name}
	}
	if nip := number(personNIP, serials); nip != "" {
		return Identity{KindPerson, IdentifierNIP, nip, name}
	}
	if carried := number(foreignFingerprint, values(certificate, oidUniqueIdentifier)); carried != "" {
		return Identity{KindFingerprint, IdentifierFingerprint, strings.ToUpper(carried), name}
	}
	return Identity{KindFingerprint, IdentifierFingerprint, fingerprint(certificate), name}
}

func number(pattern *regexp.Regexp, values []string) string {
	for _, value := range values {
		if match := pattern.FindStringSubmatch(value); match != nil {
			return match[1]
		}
	}
	return ""
}

func values(certificate *x509.Certificate, oid string) []string {
	var found []string
	for _, attribute := range certificate.Subject.Names {
		if value, isText := attribute.Value.(string); isText && attribute.Type.String() == oid {
			found = append(found, value)
		}
	}
	return found
}

func fingerprint(certificate *x509.Certificate) string {
	hash := sha256.Sum256(certificate.Raw)
	return strings.ToUpper(hex.EncodeToString(hash[:]))
}
