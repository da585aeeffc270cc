// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

func (s *Simulator) certificateEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /certificates/limits", bearer: access, serve: s.certificateLimits},
		{name: "GET /certificates/enrollments/data", bearer: access, serve: s.enrollmentData},
		{name: enrollEndpoint, bearer: access, serve: s.enroll},
		{name: "GET /certificates/enrollments/{referenceNumber}", bearer: access, serve: s.enrollmentStatus},
		{name: "POST /certificates/retrieve", bearer: access, serve: s.retrieveCertificates},
		{name: "POST /certificates/query", bearer: access, serve: s.queryCertificates},
		{name: "POST /certificates/{certificateSerialNumber}/revoke", bearer: access, serve: s.revokeCertificate},
	}
}

// quotaPeriod is how long a request for a certificate counts.
const quotaPeriod = 30 * 24 * time.Hour

// or replaces zeros by KSeF's numbers for the type of subject (changelog 2.3.0).
func (q CertificateQuota) or(subject string) CertificateQuota {
	standard := CertificateQuota{12, 6}
	if subject == ksef.TypeNIP {
		standard = CertificateQuota{300, 100}
	}
	return CertificateQuota{max(cmp.Or(q.Requests, standard.Requests), 0),
		max(cmp.Or(q.Certificates, standard.Certificates), 0)}
}

// certificateLimit is CertificateLimit.
type certificateLimit struct {
	Remaining int `json:"remaining"`
	Limit     int `json:"limit"`
}

// certificateLimitsResponse is CertificateLimitsResponse.
type certificateLimitsResponse struct {
	CanRequest  bool             `json:"canRequest"`
	Enrollment  certificateLimit `json:"enrollment"`
	Certificate certificateLimit `json:"certificate"`
}

// certificateLimits serves GET /certificates/limits.
func (s *Simulator) certificateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(s.quotaLeft(req.login.Identifier, req.now))
}

// quotaLeft counts all requests of the last 30 days, failed ones and those of revoked certificates
// included, and the active certificates. The caller holds the lock.
func (s *Simulator) quotaLeft(subject ksef.Identifier, now time.Time) certificateLimitsResponse {
	quota := s.certificateQuota(subject)
	requests, active := 0, 0
	for _, e := range s.store.Certificates.BySubject[subject] {
		if now.Before(e.Requested.Add(quotaPeriod)) {
			requests++
		}
		if issued := e.Issued(now); issued != nil && issued.Status(now) == store.CertificateActive {
			active++
		}
	}
	left := certificateLimitsResponse{
		Enrollment:  certificateLimit{max(quota.Requests-requests, 0), quota.Requests},
		Certificate: certificateLimit{max(quota.Certificates-active, 0), quota.Certificates},
	}
	left.CanRequest = left.Enrollment.Remaining > 0 && left.Certificate.Remaining > 0
	return left
}

// refusal returns the error for a request beyond the quota, or nil.
func (l certificateLimitsResponse) refusal() *apiError {
	switch {
	case l.Enrollment.Remaining == 0:
		return &apiError{Code: 25006, Description: "Osiągnięto limit możliwych do złożenia wniosków certyfikacyjnych."}
	case l.Certificate.Remaining == 0:
		return &apiError{Code: 25007, Description: "Osiągnięto limit dopuszczalnej liczby posiadanych certyfikatów."}
	}
	return nil
}

// maxRetrieved is how many certificates can be fetched at once.
const maxRetrieved = 10

var serialPattern = regexp.MustCompile(`^[0-9A-F]{16}$`)

// retrievedCertificate is RetrieveCertificatesListItem.
type retrievedCertificate struct {
	Certificate  []byte `json:"certificate"`
	Name         string `json:"certificateName"`
	SerialNumber string `json:"certificateSerialNumber"`
	Type         string `json:"certificateType"`
}

// retrieveCertificates serves POST /certificates/retrieve. It leaves out unknown numbers. What KSeF
// does with them is not documented.
func (s *Simulator) retrieveCertificates(req *request) response {
	var body struct {
		SerialNumbers []string `json:"certificateSerialNumbers"`
	}
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if count := len(body.SerialNumbers); count < 1 || count > maxRetrieved {
		return req.failed(badInput("Pole certificateSerialNumbers musi zawierać od 1 do %d numerów.", maxRetrieved))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []retrievedCertificate{}
	for _, serial := range body.SerialNumbers {
		if !serialPattern.MatchString(serial) {
			return req.failed(badSerial())
		}
		if k := s.store.Certificates.Find(serial, req.login.Identifier, req.now); k != nil {
			found = append(found, retrievedCertificate{k.Leaf.Raw, k.Name, k.Serial, k.Kind})
		}
	}
	return ok(map[string]any{"certificates": found})
}

func badSerial() *apiError {
	return badInput("Numer seryjny certyfikatu musi mieć 16 cyfr szesnastkowych.")
}

// certificateFilter is QueryCertificatesRequest.
type certificateFilter struct {
	SerialNumber *string    `json:"certificateSerialNumber"`
	Name         string     `json:"name"`
	Type         *string    `json:"type"`
	Status       *string    `json:"status"`
	ExpiresAfter *time.Time `json:"expiresAfter"`
}

func (f certificateFilter) check() *apiError {
	statuses := []string{store.CertificateActive, store.CertificateBlocked, store.CertificateRevoked,
		store.CertificateExpired}
	switch {
	case f.SerialNumber != nil && !serialPattern.MatchString(*f.SerialNumber):
		return badSerial()
	case f.Type != nil && !slices.Contains([]string{store.TypeAuthentication, store.TypeOffline}, *f.Type):
		return badInput("Typ certyfikatu %q jest nieznany.", *f.Type)
	case f.Status != nil && !slices.Contains(statuses, *f.Status):
		return badInput("Status %q jest nieznany.", *f.Status)
	}
	return nil
}

func (f certificateFilter) matches(k *store.Certificate, now time.Time) bool {
	return (f.SerialNumber == nil || *f.SerialNumber == k.Serial) &&
		(f.Type == nil || *f.Type == k.Kind) &&
		(f.Status == nil || *f.Status == k.Status(now)) &&
		(f.ExpiresAfter == nil || k.ValidTo.After(*f.ExpiresAfter)) &&
		strings.Contains(k.Name, f.Name)
}

// certificateItem is CertificateListItem.
type certificateItem struct {
	SerialNumber      string          `json:"certificateSerialNumber"`
	Name              string          `json:"name"`
	Type              string          `json:"type"`
	CommonName        string          `json:"commonName"`
	Status            string          `json:"status"`
	SubjectIdentifier ksef.Identifier `json:"subjectIdentifier"`
	ValidFrom         timestamp       `json:"validFrom"`
	ValidTo           timestamp       `json:"validTo"`
	LastUseDate       timestamp       `json:"lastUseDate"`
	RequestDate       timestamp       `json:"requestDate"`
}

// certificateList is QueryCertificatesResponse.
type certificateList struct {
	Certificates []certificateItem `json:"certificates"`
	HasMore      bool              `json:"hasMore"`
}

// queryCertificates serves POST /certificates/query: the subject's certificates, latest request
// first.
func (s *Simulator) queryCertificates(req *request) response {
	if s.options.TokensMayNotQueryCertificates && req.login.Token != "" {
		return req.methodNotAllowed()
	}
	var filter certificateFilter
	if refused := req.decodeOptional(&filter); refused != nil {
		return req.failed(refused)
	}
	size, offset, refused := numberedPage(req.URL.Query(), maxCertificatePageSize)
	if refused == nil {
		refused = filter.check()
	}
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := certificateList{Certificates: []certificateItem{}}
	skip := size * offset
	for _, e := range slices.Backward(s.store.Certificates.BySubject[req.login.Identifier]) {
		k := e.Issued(req.now)
		if k == nil || !filter.matches(k, req.now) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(list.Certificates) == size {
			list.HasMore = true
			break
		}
		list.Certificates = append(list.Certificates, certificateItem{
			k.Serial, k.Name, k.Kind, k.CommonName, k.Status(req.now), k.Subject,
			timestamp(k.Leaf.NotBefore), timestamp(k.ValidTo), timestamp(k.LastUse), timestamp(k.Requested),
		})
	}
	return ok(list)
}

// revokeCertificate serves POST /certificates/{certificateSerialNumber}/revoke. Sessions opened
// with the certificate continue (ksef-api issue 424). KSeF also lets a subject revoke the
// certificates of a linked NIP or PESEL; the simulator has no such links.
func (s *Simulator) revokeCertificate(req *request) response {
	if req.login.Signed == nil {
		return req.methodNotAllowed()
	}
	serial := req.PathValue("certificateSerialNumber")
	if !serialPattern.MatchString(serial) {
		return req.failed(badSerial())
	}
	var body struct {
		Reason *string `json:"revocationReason"`
	}
	if refused := req.decodeOptional(&body); refused != nil {
		return req.failed(refused)
	}
	if body.Reason != nil && !slices.Contains([]string{"Unspecified", "Superseded", "KeyCompromise"}, *body.Reason) {
		return req.failed(badInput("Powód unieważnienia %q jest nieznany.", *body.Reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Certificates.Find(serial, req.login.Identifier, req.now)
	switch {
	case found == nil:
		return req.failed(unknownCertificate())
	case found.Status(req.now) != store.CertificateActive:
		return req.failed(&apiError{Code: 25009,
			Description: "Nie można odwołać wskazanego certyfikatu, " +
				"ponieważ jest już odwołany, zablokowany lub nieważny."})
	}
	found.Revoked, found.RevocationEnds = req.now, req.now.Add(s.options.RevocationDelay)
	return noContent()
}

func unknownCertificate() *apiError {
	return &apiError{Code: 25008, Description: "Certyfikat o podanym numerze seryjnym nie istnieje."}
}
