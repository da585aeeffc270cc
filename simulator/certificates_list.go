// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

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

// retrieveCertificates is POST /certificates/retrieve. Numbers that the subject has no certificate
// of are left out: what KSeF does with them is not documented.
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
	statuses := []string{store.CertificateActive, store.CertificateBlocked, store.CertificateRevoked, store.CertificateExpired}
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

// queryCertificates is POST /certificates/query: the certificates of the subject, those requested
// last first.
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
