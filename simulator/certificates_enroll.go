// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/simulator/internal/ca"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

const enrollEndpoint = "POST /certificates/enrollments"

// enrollmentKept is how long the status of a request for a certificate can be asked for.
const enrollmentKept = 30 * 24 * time.Hour

// maxValidFrom is how far ahead the validity of a certificate may begin, in days (ksef-api issue
// 480).
const maxValidFrom = 90

// Lengths of a certificate's name, in characters.
const (
	minCertificateName = 5
	maxCertificateName = 100
)

var certificateNamePattern = regexp.MustCompile(`^[a-zA-Z0-9_\- ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]+$`)

// enrollRequest is EnrollCertificateRequest.
type enrollRequest struct {
	Name      string     `json:"certificateName"`
	Type      string     `json:"certificateType"`
	CSR       string     `json:"csr"`
	ValidFrom *time.Time `json:"validFrom"`
}

// enrollResponse is EnrollCertificateResponse.
type enrollResponse struct {
	ReferenceNumber string    `json:"referenceNumber"`
	Timestamp       timestamp `json:"timestamp"`
}

// enroll serves POST /certificates/enrollments.
func (s *Simulator) enroll(req *request) response {
	if !mayEnroll(req.login) {
		return req.failed(&apiError{Code: 25002,
			Description: "Brak możliwości złożenia wniosku certyfikacyjnego " +
				"dla wykorzystanego sposobu uwierzytelnienia."})
	}
	var body enrollRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.check(req.now); refused != nil {
		return req.failed(refused)
	}
	csr, refused := body.readCSR()
	if refused != nil {
		return req.failed(refused)
	}
	if !enrollmentDataOf(req.login).matches(csr) {
		return req.failed(&apiError{Code: 25003,
			Description: "Dane w CSR nie zgadzają się z danymi w użytym wektorze uwierzytelniającym."})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.quotaLeft(req.login.Identifier, req.now).refusal(); refused != nil {
		return req.failed(refused)
	}
	made, err := s.newEnrollment(req, body, csr)
	if err != nil {
		return req.problemResponse(http.StatusInternalServerError, "Nie udało się wystawić certyfikatu.")
	}
	s.store.Certificates.Add(made)
	return accepted(enrollResponse{made.Reference, timestamp(req.now)})
}

func (r enrollRequest) check(now time.Time) *apiError {
	if length := utf8.RuneCountInString(r.Name); length < minCertificateName || length > maxCertificateName {
		return badInput("Pole certificateName musi mieć od %d do %d znaków.", minCertificateName, maxCertificateName)
	}
	switch {
	case !certificateNamePattern.MatchString(r.Name):
		return badInput("Pole certificateName zawiera niedozwolone znaki.")
	case !slices.Contains([]string{store.TypeAuthentication, store.TypeOffline}, r.Type):
		return badInput("Typ certyfikatu %q jest nieznany.", r.Type)
	case r.ValidFrom != nil && r.ValidFrom.After(now.AddDate(0, 0, maxValidFrom)):
		return badInput("Pole validFrom może wskazywać najwyżej %d dni naprzód.", maxValidFrom)
	}
	return nil
}

// readCSR reads the PKCS#10 request of the body. The error has KSeF's code.
func (r enrollRequest) readCSR() (*x509.CertificateRequest, *apiError) {
	der, err := base64.StdEncoding.DecodeString(r.CSR)
	if err != nil || len(der) == 0 {
		return nil, badInput("Pole csr musi być zapisane w base64.")
	}
	csr, err := ca.ReadRequest(der)
	switch {
	case errors.Is(err, ca.ErrRequestKey):
		return nil, &apiError{Code: 25010, Description: "Nieprawidłowy typ lub długość klucza."}
	case errors.Is(err, ca.ErrRequestAlgorithm):
		return nil, &apiError{Code: 25011, Description: "Nieprawidłowy algorytm podpisu CSR."}
	case err != nil:
		return nil, &apiError{Code: 25004, Description: "Niepoprawny format CSR lub niepoprawny podpis CSR."}
	}
	return csr, nil
}

// newEnrollment records a request that is decided after the enrollment delay, and already makes its
// certificate. A validFrom before that time is ignored. The caller holds the lock.
func (s *Simulator) newEnrollment(req *request, body enrollRequest, csr *x509.CertificateRequest) (*store.Enrollment,
	error) {
	subject := req.login.Identifier
	made := &store.Enrollment{
		Reference: ksef.NewReference(ksef.EnrollmentKind, req.now), Subject: subject,
		Requested: req.now, Decided: req.now.Add(s.options.EnrollmentDelay), Failure: s.enrollmentFailure(req, csr),
	}
	if made.Failure != nil {
		return made, nil
	}
	from := made.Decided
	if body.ValidFrom != nil && body.ValidFrom.After(from) {
		from = body.ValidFrom.UTC()
	}
	data := enrollmentDataOf(req.login)
	certificate := &store.Certificate{
		Name: body.Name, Kind: body.Type, CommonName: data.CommonName, Subject: subject,
		Requested: req.now, Accepted: made.Decided.Add(s.options.CertificateAcceptanceDelay),
	}
	data.CommonName += suffixOf(body.Type)
	var err error
	if certificate.Leaf, err = s.authority.Issue(keyUsageOf(body.Type), data.attributes(), csr.PublicKey, from,
		s.options.CertificateLifetime); err != nil {
		return nil, err
	}
	certificate.Serial, certificate.ValidTo = ca.SerialNumber(certificate.Leaf), certificate.Leaf.NotAfter
	made.Certificate = certificate
	return made, nil
}

// enrollmentFailure returns how a request ends, or nil when it succeeds. More requests may be in
// progress than there is room for; the later ones then fail at the end. The caller holds the lock.
func (s *Simulator) enrollmentFailure(req *request, csr *x509.CertificateRequest) *store.StatusInfo {
	if req.fault.Kind == FaultFailEnrollment {
		return failedEnrollment(req.fault.Status)
	}
	certified, known := s.store.Certificates.KeyOwners[string(csr.RawSubjectPublicKeyInfo)]
	if known && certified != req.login.Identifier {
		return &store.StatusInfo{Code: 400, Description: "Wniosek odrzucony",
			Details: []string{"Klucz publiczny został już certyfikowany przez inny podmiot."}}
	}
	room := s.quotaLeft(req.login.Identifier, req.now).Certificate.Remaining
	for _, e := range s.store.Certificates.BySubject[req.login.Identifier] {
		if req.now.Before(e.Decided) && e.Failure == nil {
			room--
		}
	}
	if room <= 0 {
		return failedEnrollment(http.StatusBadRequest)
	}
	return nil
}

// failedEnrollment returns the outcome with one of the documented codes: 400, 500 or 550.
func failedEnrollment(code int) *store.StatusInfo {
	switch code {
	case http.StatusBadRequest:
		return &store.StatusInfo{Code: code, Description: "Wniosek odrzucony",
			Details: []string{"Osiągnięto dopuszczalny limit posiadanych certyfikatów."}}
	case http.StatusInternalServerError:
		return &store.StatusInfo{Code: code, Description: "Nieznany błąd"}
	}
	return &store.StatusInfo{Code: code, Description: "Operacja została anulowana przez system",
		Details: []string{"Przetwarzanie zostało przerwane z przyczyn wewnętrznych systemu. Spróbuj ponownie"}}
}

// enrollmentStatusResponse is CertificateEnrollmentStatusResponse.
type enrollmentStatusResponse struct {
	RequestDate             timestamp        `json:"requestDate"`
	Status                  store.StatusInfo `json:"status"`
	CertificateSerialNumber string           `json:"certificateSerialNumber,omitempty"`
}

// enrollmentStatus serves GET /certificates/enrollments/{referenceNumber}.
func (s *Simulator) enrollmentStatus(req *request) response {
	reference, refused := req.reference()
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Certificates.ByReference[reference]
	if found == nil || found.Subject != req.login.Identifier {
		return req.failed(&apiError{Code: 25005,
			Description: "Wniosek certyfikacyjny o podanym numerze referencyjnym nie istnieje."})
	}
	if !req.now.Before(found.Requested.Add(enrollmentKept)) {
		return req.failure(http.StatusGone, 0)
	}
	body := enrollmentStatusResponse{RequestDate: timestamp(found.Requested), Status: found.Status(req.now)}
	if issued := found.Issued(req.now); issued != nil {
		body.CertificateSerialNumber = issued.Serial
	}
	return ok(body)
}

const oidUniqueIdentifier = "2.5.4.45"

// suffixOf returns what KSeF's authority appends to the common name (ksef-api issue 378).
func suffixOf(kind string) string {
	if kind == store.TypeOffline {
		return " (offline)"
	}
	return " (uwierzytelnienie)"
}

// keyUsageOf returns the key usage of certificates of a type (certyfikaty-KSeF.md).
func keyUsageOf(kind string) x509.KeyUsage {
	if kind == store.TypeOffline {
		return x509.KeyUsageContentCommitment
	}
	return x509.KeyUsageDigitalSignature
}

// enrollmentData is CertificateEnrollmentDataResponse: the subject that a request for a certificate
// must have.
type enrollmentData struct {
	CommonName             string `json:"commonName"`
	CountryName            string `json:"countryName"`
	GivenName              string `json:"givenName,omitempty"`
	Surname                string `json:"surname,omitempty"`
	SerialNumber           string `json:"serialNumber,omitempty"`
	UniqueIdentifier       string `json:"uniqueIdentifier,omitempty"`
	OrganizationName       string `json:"organizationName,omitempty"`
	OrganizationIdentifier string `json:"organizationIdentifier,omitempty"`
}

// enrollmentData serves GET /certificates/enrollments/data.
func (s *Simulator) enrollmentData(req *request) response {
	if !mayEnroll(req.login) {
		return req.failed(&apiError{Code: 25001,
			Description: "Brak możliwości pobrania danych do CSR dla wykorzystanego sposobu uwierzytelnienia."})
	}
	return ok(enrollmentDataOf(req.login))
}

// mayEnroll reports whether a login may request certificates: it must be signed. In the OpenAPI the
// subjects of KSeF's certificates are Nip, Pesel and Fingerprint, so a Peppol provider is assumed
// to get none.
func mayEnroll(l *store.Login) bool {
	return l.Signed != nil && l.Identifier.Type != ksef.TypePeppolID
}

// enrollmentDataOf reads the subject of the login's certificate by the table of
// certyfikaty-KSeF.md. NIP and PESEL have the prefix of KSeF's certificates, whatever it was before
// (ksef-api issue 187). How KSeF names a subject without either is not documented: here its
// fingerprint is the unique identifier.
func enrollmentDataOf(l *store.Login) enrollmentData {
	attributes := subjectAttributes(l.Signed)
	person := isPerson(attributes)
	data := enrollmentData{
		CommonName: attributes[oidCommonName], CountryName: attributes[oidCountry],
		UniqueIdentifier: attributes[oidUniqueIdentifier],
	}
	if l.Issued != nil {
		data.CommonName = strings.TrimSuffix(data.CommonName, suffixOf(l.Issued.Kind))
	}
	if person {
		data.GivenName, data.Surname = attributes[oidGivenName], attributes[oidSurname]
		data.SerialNumber = attributes[oidSerialNumber]
	} else {
		data.OrganizationName = attributes[oidOrganization]
		data.OrganizationIdentifier = attributes[oidOrganizationIdentifier]
	}
	switch {
	case l.Identifier.Type == ksef.TypePESEL:
		data.SerialNumber = "PNOPL-" + l.Identifier.Value
	case l.Identifier.Type == ksef.TypeFingerprint:
		data.UniqueIdentifier = l.Identifier.Value
	case person:
		data.SerialNumber = "TINPL-" + l.Identifier.Value
	default:
		data.OrganizationIdentifier = "VATPL-" + l.Identifier.Value
	}
	return data
}

// attributes lists the non-empty attributes in the order of KSeF's certificates.
func (d enrollmentData) attributes() []pkix.AttributeTypeAndValue {
	var list []pkix.AttributeTypeAndValue
	for _, attribute := range []struct {
		last  int
		value string
	}{
		{6, d.CountryName}, {97, d.OrganizationIdentifier}, {10, d.OrganizationName}, {4, d.Surname}, {42, d.GivenName},
		{5, d.SerialNumber}, {45, d.UniqueIdentifier}, {3, d.CommonName},
	} {
		if attribute.value != "" {
			oid := asn1.ObjectIdentifier{2, 5, 4, attribute.last}
			list = append(list, pkix.AttributeTypeAndValue{Type: oid, Value: attribute.value})
		}
	}
	return list
}

// matches reports whether a request names exactly this subject, in any order of attributes.
func (d enrollmentData) matches(csr *x509.CertificateRequest) bool {
	return slices.Equal(sortedTexts(d.attributes()), sortedTexts(csr.Subject.Names))
}

func sortedTexts(attributes []pkix.AttributeTypeAndValue) []string {
	var list []string
	for _, attribute := range attributes {
		list = append(list, fmt.Sprint(attribute.Type, "=", attribute.Value))
	}
	slices.Sort(list)
	return list
}
