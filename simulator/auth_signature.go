// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/authrequest"
	"vault-plugin-secrets-ksef/simulator/internal/ca"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
	"vault-plugin-secrets-ksef/simulator/xadesverify"
)

// loginBySignature serves POST /auth/xades-signature. It checks in this order: signature, schema,
// certificate, context, challenge. A document that fails an earlier check does not use its
// challenge.
func (s *Simulator) loginBySignature(req *request) response {
	if !req.hasContentType("application/xml") {
		return req.unsupportedMediaType("application/xml")
	}
	chain, err := strconv.ParseBool(valueOr(req.URL.Query().Get("verifyCertificateChain"), "false"))
	if err != nil {
		return req.failed(badInput("Parametr verifyCertificateChain musi mieć wartość true albo false."))
	}
	data, refused := req.body()
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	s.store.AddSigned(data)
	s.mu.Unlock()
	signed, err := xadesverify.Verify(data, req.now, s.options.SigningTimeTolerance)
	if err != nil {
		return req.failed(signatureError(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	login, challenge, refused := s.readSigned(signed)
	if refused != nil {
		return req.failed(refused)
	}
	if _, valid := s.store.UseChallenge(challenge, req.now); !valid {
		return req.failed(invalidChallenge())
	}
	login.Chain = chain
	return s.startLogin(req, login)
}

// readSigned makes a login from a verified document. The caller holds the lock.
func (s *Simulator) readSigned(signed *xadesverify.Document) (*store.Login, string, *apiError) {
	document, err := authrequest.Read(signed.Content)
	if err != nil {
		return nil, "", &apiError{21401, "Dokument nie jest zgodny ze schemą (xsd).", []string{err.Error()}}
	}
	signedBy, refused := identify(signed.Certificate, document.SubjectType)
	if refused != nil {
		return nil, "", refused
	}
	issued, refused := s.ownCertificate(signed.Certificate)
	if refused != nil {
		return nil, "", refused
	}
	if issued != nil && (document.SubjectType == authrequest.BySubject || issued.Subject.Type == ksef.TypeFingerprint) {
		signedBy.identifier = issued.Subject
	}
	if !document.Context.Valid() {
		return nil, "", &apiError{21117, "Nieprawidłowy identyfikator podmiotu dla wskazanego typu kontekstu.",
			[]string{"Suma kontrolna identyfikatora " + document.Context.Value + " jest nieprawidłowa."}}
	}
	return &store.Login{
		Owner: store.Owner{Context: document.Context,
			Identifier: signedBy.identifier}, Method: signatureMethod(signedBy, issued),
		IPPolicy: document.IPPolicy, Signed: signed.Certificate, Issued: issued,
	}, document.Challenge, nil
}

// signatureError adds the OpenAPI's description for the code of a refusal.
func signatureError(err error) *apiError {
	var refused *xadesverify.Error
	if !errors.As(err, &refused) {
		return &apiError{Code: xadesverify.CodeInvalidSignature, Description: "Nieprawidłowy podpis."}
	}
	descriptions := map[int]string{
		xadesverify.CodeUnreadable:       "Nieczytelna treść.",
		xadesverify.CodeEncoding:         "Nieprawidłowe kodowanie znaków.",
		xadesverify.CodeNotXML:           "Nieprawidłowy dokument.",
		xadesverify.CodeNoSignature:      "Brak podpisu.",
		xadesverify.CodeManySignatures:   "Przekroczona liczba dozwolonych podpisów.",
		xadesverify.CodeInvalidSignature: "Nieprawidłowy podpis.",
		xadesverify.CodeCertificate:      "Nieprawidłowy certyfikat.",
	}
	return &apiError{refused.Code, descriptions[refused.Code], refused.Details}
}

// signatureFailure returns how a login with a verified document fails, or nil. Only KSeF's own
// certificates have a trusted chain, so a login with another one that asks for the chain to be
// verified fails.
func signatureFailure(l *store.Login, now time.Time) *store.StatusInfo {
	badCertificate := func(detail string) *store.StatusInfo {
		return &store.StatusInfo{Code: 460,
			Description: "Uwierzytelnianie zakończone niepowodzeniem z powodu błędu certyfikatu",
			Details:     []string{detail}}
	}
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch certificate := l.Signed; {
	case now.Before(certificate.NotBefore) || now.After(certificate.NotAfter):
		return badCertificate("Nieważny certyfikat")
	case l.Issued != nil && (now.Before(l.Issued.Accepted) || now.After(l.Issued.ValidTo)):
		return badCertificate("Nieważny certyfikat")
	case l.Issued != nil && !l.Issued.Revoked.IsZero():
		return badCertificate("Certyfikat odwołany")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&signing == 0:
		return badCertificate("Niepoprawny certyfikat")
	case l.Chain && l.Issued == nil:
		return badCertificate("Niezaufany łańcuch certyfikatów")
	}
	return nil
}

func valueOr(value, standard string) string {
	if value == "" {
		return standard
	}
	return value
}

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

// Fingerprint returns the identifier of a subject that logs in under certificateFingerprint: the
// SHA-256 of the certificate, as 64 upper-case hexadecimal digits.
func Fingerprint(certificate *x509.Certificate) Identifier {
	sum := sha256.Sum256(certificate.Raw)
	return ksef.Identifier{Type: ksef.TypeFingerprint, Value: strings.ToUpper(hex.EncodeToString(sum[:]))}
}

// subject is the one that a certificate names.
type subject struct {
	identifier ksef.Identifier
	person     bool
}

// identify reads the subject of a login from the certificate, by the SubjectIdentifierType of the
// login document.
//
// The certificate of a person must have givenName, surname, CN and C, that of a seal O, CN and C.
// Both these and an identifier with a prefix that KSeF does not know are refused with 21115. The
// seal of a Peppol provider has exactly the provider's identifier as organizationIdentifier. Under
// certificateSubject a certificate without a readable identifier is a conflict (21406). Under
// certificateFingerprint every certificate stands for its fingerprint, also one that names a NIP:
// the official tests of EU entities log in with such a certificate.
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

// isPerson reports whether a certificate is a person's and not a seal.
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

// ownCertificate returns the record of a certificate that KSeF has issued, or nil when the
// certificate names another issuer. It refuses one that names KSeF but is not known here, and one
// of the type Offline, which is not for logins; KSeF's code for that is not documented. The caller
// holds the lock.
func (s *Simulator) ownCertificate(leaf *x509.Certificate) (*store.Certificate, *apiError) {
	named, issued := s.authority.Issued(leaf)
	switch {
	case !named:
		return nil, nil
	case !issued:
		return nil, badCertificate("Certyfikat KSeF pochodzi z innego środowiska.")
	}
	known := s.store.Certificates.BySerial[ca.SerialNumber(leaf)]
	switch {
	case known == nil:
		return nil, badCertificate("Certyfikat KSeF jest nieznany.")
	case known.Certificate.Kind == store.TypeOffline:
		return nil, badCertificate("Certyfikat KSeF typu Offline nie służy do uwierzytelnienia.")
	}
	return known.Certificate, nil
}
