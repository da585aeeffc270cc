// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

func (s *Simulator) subjectLimitEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /limits/subject", bearer: access, serve: s.subjectLimits},
		{name: "POST /testdata/limits/subject/certificate", bearer: access, serve: s.setSubjectLimits},
		{name: "DELETE /testdata/limits/subject/certificate", bearer: access, serve: s.resetSubjectLimits},
	}
}

// limitChanges is what has been changed of the limits of contexts and subjects.
type limitChanges struct {
	contexts map[ksef.Identifier]contextLimits
	subjects map[ksef.Identifier]subjectLimits
}

func newLimitChanges() limitChanges {
	return limitChanges{contexts: map[ksef.Identifier]contextLimits{}, subjects: map[ksef.Identifier]subjectLimits{}}
}

// subjectLimits is EffectiveSubjectLimits and part of SetSubjectLimitsRequest, where each part may
// be left out.
type subjectLimits struct {
	Enrollment  *enrollmentLimit  `json:"enrollment"`
	Certificate *certificateCount `json:"certificate"`
}

// enrollmentLimit is EnrollmentEffectiveSubjectLimits.
type enrollmentLimit struct {
	MaxEnrollments *int `json:"maxEnrollments"`
}

// certificateCount is CertificateEffectiveSubjectLimits.
type certificateCount struct {
	MaxCertificates *int `json:"maxCertificates"`
}

// subjectLimits is GET /limits/subject.
func (s *Simulator) subjectLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	quota := s.certificateQuota(req.login.Identifier)
	return ok(subjectLimits{&enrollmentLimit{&quota.Requests}, &certificateCount{&quota.Certificates}})
}

// certificateQuota returns what a subject may have: by the options, unless a test has changed it.
// The caller holds the lock.
func (s *Simulator) certificateQuota(subject ksef.Identifier) CertificateQuota {
	quota := s.options.CertificateQuota.or(subject.Type)
	changed := s.limitChanges.subjects[subject]
	if changed.Enrollment != nil && changed.Enrollment.MaxEnrollments != nil {
		quota.Requests = *changed.Enrollment.MaxEnrollments
	}
	if changed.Certificate != nil && changed.Certificate.MaxCertificates != nil {
		quota.Certificates = *changed.Certificate.MaxCertificates
	}
	return quota
}

// subjectLimitsRequest is SetSubjectLimitsRequest.
type subjectLimitsRequest struct {
	SubjectType string `json:"subjectIdentifierType"`
	subjectLimits
}

// check validates the request. What subjectIdentifierType does besides is not documented: here the
// limits are those of the current subject, whatever its type.
func (r subjectLimitsRequest) check() fieldErrors {
	var wrong fieldErrors
	if _, known := enumValue(r.SubjectType, ksef.TypeNIP, ksef.TypePESEL, ksef.TypeFingerprint); r.SubjectType != "" && !known {
		wrong.add("'subjectIdentifierType' has a range of values which does not include '%s'.", r.SubjectType)
	}
	if r.Enrollment != nil {
		wrong.notNegative("enrollment.maxEnrollments", r.Enrollment.MaxEnrollments)
	}
	if r.Certificate != nil {
		wrong.notNegative("certificate.maxCertificates", r.Certificate.MaxCertificates)
	}
	return wrong
}

// setSubjectLimits is POST /testdata/limits/subject/certificate. What is left out gets its default
// back: whether KSeF leaves it as it was is not documented.
func (s *Simulator) setSubjectLimits(req *request) response {
	var body subjectLimitsRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.check().refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limitChanges.subjects[req.login.Identifier] = body.subjectLimits
	return done()
}

// resetSubjectLimits is DELETE /testdata/limits/subject/certificate.
func (s *Simulator) resetSubjectLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.limitChanges.subjects, req.login.Identifier)
	return done()
}
