// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"
	"net/http"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"
)

const enrollEndpoint = "POST /certificates/enrollments"

// enrollmentKept is how long the status of a request for a certificate can be asked for.
const enrollmentKept = 30 * 24 * time.Hour

// maxValidFrom is how far ahead the validity of a certificate may begin, in days (ksef-api issue 480).
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

// enroll is POST /certificates/enrollments.
func (s *Simulator) enroll(c *call) reply {
	if !c.login.mayEnroll() {
		return c.failed(&apiError{Code: 25002, Description: "Brak możliwości złożenia wniosku certyfikacyjnego dla wykorzystanego sposobu uwierzytelnienia."})
	}
	var request enrollRequest
	if refused := c.readJSON(&request); refused != nil {
		return *refused
	}
	if refused := request.check(c.now); refused != nil {
		return c.failed(refused)
	}
	csr, refused := readCSR(request.CSR)
	if refused != nil {
		return c.failed(refused)
	}
	if !c.login.enrollmentData().matches(csr) {
		return c.failed(&apiError{Code: 25003, Description: "Dane w CSR nie zgadzają się z danymi w użytym wektorze uwierzytelniającym."})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.quotaLeft(c.login.identifier, c.now).refusal(); refused != nil {
		return c.failed(refused)
	}
	made, err := s.newEnrollment(c, request, csr)
	if err != nil {
		return c.problemReply(http.StatusInternalServerError, "Nie udało się wystawić certyfikatu.")
	}
	s.store.certificates.add(made)
	return accepted(enrollResponse{made.reference, timestamp(c.now)})
}

func (r enrollRequest) check(now time.Time) *apiError {
	if length := utf8.RuneCountInString(r.Name); length < minCertificateName || length > maxCertificateName {
		return badInput("Pole certificateName musi mieć od %d do %d znaków.", minCertificateName, maxCertificateName)
	}
	switch {
	case !certificateNamePattern.MatchString(r.Name):
		return badInput("Pole certificateName zawiera niedozwolone znaki.")
	case !slices.Contains([]string{typeAuthentication, typeOffline}, r.Type):
		return badInput("Typ certyfikatu %q jest nieznany.", r.Type)
	case r.ValidFrom != nil && r.ValidFrom.After(now.AddDate(0, 0, maxValidFrom)):
		return badInput("Pole validFrom może wskazywać najwyżej %d dni naprzód.", maxValidFrom)
	}
	return nil
}

// newEnrollment records a request that will be decided after the enrollment delay, and makes the certificate that it will
// have led to by then. A validFrom that is over by then counts as none. The caller holds the lock.
func (s *Simulator) newEnrollment(c *call, request enrollRequest, csr *x509.CertificateRequest) (*enrollment, error) {
	subject := c.login.identifier
	made := &enrollment{
		reference: newReference(enrollmentKind, c.now), subject: subject,
		requested: c.now, decided: c.now.Add(s.options.EnrollmentDelay), failure: s.enrollmentFailure(c, csr),
	}
	if made.failure != nil {
		return made, nil
	}
	from := made.decided
	if request.ValidFrom != nil && request.ValidFrom.After(from) {
		from = request.ValidFrom.UTC()
	}
	data := c.login.enrollmentData()
	certificate := &ksefCertificate{
		name: request.Name, kind: request.Type, commonName: data.CommonName, subject: subject,
		requested: c.now, accepted: made.decided.Add(s.options.CertificateAcceptanceDelay),
	}
	data.CommonName += suffixOf(request.Type)
	var err error
	if certificate.leaf, err = s.authority.issue(request.Type, data.attributes(), csr.PublicKey, from, s.options.CertificateLifetime); err != nil {
		return nil, err
	}
	certificate.serial, certificate.validTo = serialNumber(certificate.leaf), certificate.leaf.NotAfter
	made.certificate = certificate
	return made, nil
}

// enrollmentFailure is how a request ends; nil when it succeeds. Requests that are in progress together may be more than
// there is room for: then the later ones are turned down at the end only. The caller holds the lock.
func (s *Simulator) enrollmentFailure(c *call, csr *x509.CertificateRequest) *statusInfo {
	if c.fault.Kind == FaultFailEnrollment {
		return failedEnrollment(c.fault.Status)
	}
	certified, known := s.store.certificates.keys[string(csr.RawSubjectPublicKeyInfo)]
	if known && certified != c.login.identifier {
		return &statusInfo{400, "Wniosek odrzucony", []string{"Klucz publiczny został już certyfikowany przez inny podmiot."}}
	}
	room := s.quotaLeft(c.login.identifier, c.now).Certificate.Remaining
	for _, e := range s.store.certificates.enrolled[c.login.identifier] {
		if c.now.Before(e.decided) && e.failure == nil {
			room--
		}
	}
	if room <= 0 {
		return failedEnrollment(http.StatusBadRequest)
	}
	return nil
}

// failedEnrollment is the end of a request with one of the documented codes: 400, 500 or 550.
func failedEnrollment(code int) *statusInfo {
	switch code {
	case http.StatusBadRequest:
		return &statusInfo{code, "Wniosek odrzucony", []string{"Osiągnięto dopuszczalny limit posiadanych certyfikatów."}}
	case http.StatusInternalServerError:
		return &statusInfo{Code: code, Description: "Nieznany błąd"}
	}
	return &statusInfo{code, "Operacja została anulowana przez system",
		[]string{"Przetwarzanie zostało przerwane z przyczyn wewnętrznych systemu. Spróbuj ponownie"}}
}

// enrollmentStatusResponse is CertificateEnrollmentStatusResponse.
type enrollmentStatusResponse struct {
	RequestDate             timestamp  `json:"requestDate"`
	Status                  statusInfo `json:"status"`
	CertificateSerialNumber string     `json:"certificateSerialNumber,omitempty"`
}

// enrollmentStatus is GET /certificates/enrollments/{referenceNumber}.
func (s *Simulator) enrollmentStatus(c *call) reply {
	reference, refused := c.reference()
	if refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.certificates.enrollments[reference]
	if found == nil || found.subject != c.login.identifier {
		return c.failed(&apiError{Code: 25005, Description: "Wniosek certyfikacyjny o podanym numerze referencyjnym nie istnieje."})
	}
	if !c.now.Before(found.requested.Add(enrollmentKept)) {
		return c.failure(http.StatusGone, 0)
	}
	answer := enrollmentStatusResponse{RequestDate: timestamp(found.requested), Status: found.status(c.now)}
	if issued := found.issued(c.now); issued != nil {
		answer.CertificateSerialNumber = issued.serial
	}
	return ok(answer)
}
