// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"cmp"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// quotaPeriod is how long a request for a certificate counts.
const quotaPeriod = 30 * 24 * time.Hour

// or returns the quota with KSeF's numbers for the type of subject in place of zeros (changelog
// 2.3.0).
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

// certificateLimits is GET /certificates/limits.
func (s *Simulator) certificateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(s.quotaLeft(req.login.Identifier, req.now))
}

// quotaLeft counts all requests of the last 30 days, whatever became of them or of their
// certificates, and the certificates that are active. The caller holds the lock.
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

// refusal is the answer to a request for a certificate beyond the quota; nil when there is room.
func (l certificateLimitsResponse) refusal() *apiError {
	switch {
	case l.Enrollment.Remaining == 0:
		return &apiError{Code: 25006, Description: "Osiągnięto limit możliwych do złożenia wniosków certyfikacyjnych."}
	case l.Certificate.Remaining == 0:
		return &apiError{Code: 25007, Description: "Osiągnięto limit dopuszczalnej liczby posiadanych certyfikatów."}
	}
	return nil
}
