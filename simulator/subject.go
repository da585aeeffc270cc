// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"vault-plugin-secrets-ksef/simulator/internal/authrequest"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// Object identifiers of the attributes that KSeF reads from a certificate's subject
// (podpis-xades.md).
const (
	oidCommonName             = "2.5.4.3"
	oidSurname                = "2.5.4.4"
	oidSerialNumber           = "2.5.4.5"
	oidCountry                = "2.5.4.6"
	oidOrganization           = "2.5.4.10"
	oidGivenName              = "2.5.4.42"
	oidOrganizationIdentifier = "2.5.4.97"
)

var (
	peselInSerial     = regexp.MustCompile(`(PNOPL|PESEL).*?(\d{11})`)
	nipInSerial       = regexp.MustCompile(`(TINPL|NIP).*?(\d{10})`)
	nipInOrganization = regexp.MustCompile(`(VATPL).*?(\d{10})`)
	peppolID          = regexp.MustCompile(ksef.PeppolPattern)
	knownPrefixes     = regexp.MustCompile(`PNOPL|PESEL|TINPL|NIP|VATPL`)
)

// Fingerprint is the identifier of a subject that logs in under certificateFingerprint: the SHA-256
// of the certificate, as 64 upper-case hexadecimal digits.
func Fingerprint(certificate *x509.Certificate) Identifier {
	sum := sha256.Sum256(certificate.Raw)
	return ksef.Identifier{Type: ksef.TypeFingerprint, Value: strings.ToUpper(hex.EncodeToString(sum[:]))}
}

// subject is who a certificate names.
type subject struct {
	identifier ksef.Identifier
	person     bool
}

// identify reads the signer of a login request from the certificate, under the
// SubjectIdentifierType of the request.
//
// A certificate of a person must have givenName, surname, CN and C, that of a seal O, CN and C; an
// identifier with a prefix that KSeF does not know is refused too: all with 21115. The seal of a
// Peppol provider has the provider's identifier, and nothing else, as organizationIdentifier. With
// certificateSubject a certificate without a readable identifier is a conflict (21406). Under
// certificateFingerprint any certificate is its fingerprint, whether it names a NIP or a PESEL or
// not: the official tests of EU entities log in so with a certificate that names a NIP.
func identify(certificate *x509.Certificate, subjectType string) (subject, *apiError) {
	attributes := subjectAttributes(certificate)
	person := isPerson(attributes)
	if subjectType == authrequest.ByFingerprint {
		return subject{Fingerprint(certificate), person}, nil
	}
	identifier, readable := subjectIdentifier(attributes, person)
	if missing := missingAttributes(attributes, person); len(missing) > 0 {
		return subject{}, badCertificate("Brak wymaganych atrybutów podmiotu: " + strings.Join(missing, ", ") + ".")
	}
	if readable {
		return subject{identifier, person}, nil
	}
	written := attributes[oidSerialNumber] + attributes[oidOrganizationIdentifier]
	if written != "" && !knownPrefixes.MatchString(written) {
		return subject{}, badCertificate("Nieznany prefiks identyfikatora podmiotu.")
	}
	return subject{}, conflict("Certyfikat nie zawiera identyfikatora podmiotu: użyj certificateFingerprint.")
}

// isPerson tells a person's certificate from a seal.
func isPerson(attributes map[string]string) bool {
	return attributes[oidGivenName] != "" || attributes[oidSurname] != ""
}

func subjectIdentifier(attributes map[string]string, person bool) (ksef.Identifier, bool) {
	if !person {
		organization := attributes[oidOrganizationIdentifier]
		if peppolID.MatchString(organization) {
			return ksef.Identifier{Type: ksef.TypePeppolID, Value: organization}, true
		}
		return identifierOf(ksef.TypeNIP, nipInOrganization.FindStringSubmatch(organization))
	}
	serial := attributes[oidSerialNumber]
	if match := peselInSerial.FindStringSubmatch(serial); match != nil {
		return identifierOf(ksef.TypePESEL, match)
	}
	return identifierOf(ksef.TypeNIP, nipInSerial.FindStringSubmatch(serial))
}

func identifierOf(kind string, match []string) (ksef.Identifier, bool) {
	if match == nil {
		return ksef.Identifier{}, false
	}
	return ksef.Identifier{Type: kind, Value: match[2]}, true
}

func missingAttributes(attributes map[string]string, person bool) []string {
	required := []struct{ oid, name string }{{oidOrganization, "O"}, {oidCommonName, "CN"}, {oidCountry, "C"}}
	if person {
		required[0] = struct{ oid, name string }{oidGivenName, "givenName"}
		required = append(required, struct{ oid, name string }{oidSurname, "surname"})
	}
	var missing []string
	for _, attribute := range required {
		if attributes[attribute.oid] == "" {
			missing = append(missing, attribute.name)
		}
	}
	return missing
}

func subjectAttributes(certificate *x509.Certificate) map[string]string {
	attributes := map[string]string{}
	for _, name := range certificate.Subject.Names {
		attributes[name.Type.String()] = fmt.Sprint(name.Value)
	}
	return attributes
}

func badCertificate(detail string) *apiError {
	return &apiError{Code: 21115, Description: "Nieprawidłowy certyfikat.", Details: []string{detail}}
}

func conflict(detail string) *apiError {
	return &apiError{Code: 21406, Description: "Konflikt podpisu i typu uwierzytelnienia.", Details: []string{detail}}
}
