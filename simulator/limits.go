// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

func (s *Simulator) limitEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /rate-limits", bearer: access, serve: s.rateLimits},
		{name: "POST /testdata/rate-limits", bearer: access, serve: s.setRateLimits},
		{name: "DELETE /testdata/rate-limits", bearer: access, serve: s.resetRateLimits},
		{name: "POST /testdata/rate-limits/production", bearer: access, serve: s.setProductionRateLimits},
		{name: "GET /limits/context", bearer: access, serve: s.contextLimits},
		{name: "POST /testdata/limits/context/session", bearer: access, serve: s.setContextLimits},
		{name: "DELETE /testdata/limits/context/session", bearer: access, serve: s.resetContextLimits},
		{name: "GET /limits/subject", bearer: access, serve: s.subjectLimits},
		{name: "POST /testdata/limits/subject/certificate", bearer: access, serve: s.setSubjectLimits},
		{name: "DELETE /testdata/limits/subject/certificate", bearer: access, serve: s.resetSubjectLimits},
	}
}

// rateLimits serves GET /rate-limits: the limits of the current context.
func (s *Simulator) rateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(s.limiter.Of(req.login.Context))
}

// setRateLimits serves POST /testdata/rate-limits. Counted requests and blocks remain. What KSeF
// does is not documented.
func (s *Simulator) setRateLimits(req *request) response {
	var body rateLimitsRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.check().refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.Override(req.login.Context, body.apply(s.limiter.Of(req.login.Context)))
	return done()
}

// resetRateLimits serves DELETE /testdata/rate-limits: it restores the limits of the options.
func (s *Simulator) resetRateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.Reset(req.login.Context)
	return done()
}

// setProductionRateLimits serves POST /testdata/rate-limits/production.
func (s *Simulator) setProductionRateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.Override(req.login.Context, limits.Production())
	return done()
}

// largestMultiple is how many times production's limit a test may set. The official tests report at
// most 1200 for onlineSession's perHour, which is 120 in production. The other ranges are derived
// from that.
const largestMultiple = 10

// rateLimitsRequest is SetRateLimitsRequest.
type rateLimitsRequest struct {
	RateLimits map[string]*limits.Values `json:"rateLimits"`
}

// check returns a sentence for each field that is not valid, in the order of the groups.
//
// The official badRequestTest sends onlineSession with one invalid field and nothing else. One
// version counts eleven details, a later one twelve. Here it is eleven: groups that came after the
// first eleven are optional, though OpenAPI 2.7.0 requires invoiceExportStatus and
// collectiveIdentifier. Another official test (rateLimitsPositive) omits the former.
func (r rateLimitsRequest) check() fieldErrors {
	var wrong fieldErrors
	if r.RateLimits == nil {
		wrong.notEmpty("rateLimits")
		return wrong
	}
	for _, known := range limits.Production() {
		field := "rateLimits." + known.Group
		given := r.RateLimits[known.Group]
		switch {
		case given != nil:
			checkRateLimits(given, field, known.Windows, &wrong)
		case !known.Optional:
			wrong.notEmpty(field)
		}
	}
	return wrong
}

// checkRateLimits requires -1 where production has no limit. What KSeF accepts there is not known.
func checkRateLimits(v *limits.Values, field string, production limits.Windows, wrong *fieldErrors) {
	for _, one := range []struct {
		name           string
		value, highest int
	}{
		{".perSecond", v.PerSecond, production.PerSecond},
		{".perMinute", v.PerMinute, production.PerMinute},
		{".perHour", v.PerHour, production.PerHour},
	} {
		least, most := 1, largestMultiple*one.highest
		if one.highest < 0 {
			least, most = -1, -1
		}
		wrong.between(field+one.name, one.value, least, most)
	}
}

// apply returns the limits with those of the request in place.
func (r rateLimitsRequest) apply(current limits.Groups) limits.Groups {
	changed := slices.Clone(current)
	for i, one := range changed {
		if given := r.RateLimits[one.Group]; given != nil {
			changed[i].Windows = limits.Windows(*given)
		}
	}
	return changed
}

// contextLimits is EffectiveContextLimits and SetSessionLimitsRequest. They have no effect, because
// there are no invoices. collectiveIdentifier came after OpenAPI 2.7.0 (official
// ContextLimitIntegrationTest).
type contextLimits struct {
	OnlineSession        *invoiceLimits    `json:"onlineSession"`
	BatchSession         *invoiceLimits    `json:"batchSession"`
	CollectiveIdentifier *collectiveLimits `json:"collectiveIdentifier"`
}

// invoiceLimits is OnlineSessionEffectiveContextLimits and BatchSessionEffectiveContextLimits.
type invoiceLimits struct {
	MaxSizeMB               int `json:"maxInvoiceSizeInMB"`
	MaxSizeWithAttachmentMB int `json:"maxInvoiceWithAttachmentSizeInMB"`
	MaxInvoices             int `json:"maxInvoices"`
}

type collectiveLimits struct {
	MaxInvoices int `json:"maxInvoices"`
}

// The maximums of OpenAPI 2.7.0 for OnlineSessionContextLimitsOverride.
const (
	largestSizeMB               = 5
	largestSizeWithAttachmentMB = 10
	largestInvoices             = 100000
)

func defaultContextLimits() contextLimits {
	return contextLimits{&invoiceLimits{1, 3, 10000}, &invoiceLimits{1, 3, 10000}, &collectiveLimits{500}}
}

// contextLimits serves GET /limits/context.
func (s *Simulator) contextLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if changed, found := s.limitChanges.contexts[req.login.Context]; found {
		return ok(changed)
	}
	return ok(defaultContextLimits())
}

// setContextLimits serves POST /testdata/limits/context/session.
func (s *Simulator) setContextLimits(req *request) response {
	var body contextLimits
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.check().refusal(); refused != nil {
		return req.failed(refused)
	}
	if body.CollectiveIdentifier == nil {
		body.CollectiveIdentifier = defaultContextLimits().CollectiveIdentifier
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limitChanges.contexts[req.login.Context] = body
	return done()
}

func (l contextLimits) check() fieldErrors {
	var wrong fieldErrors
	l.OnlineSession.check("onlineSession", &wrong)
	l.BatchSession.check("batchSession", &wrong)
	if l.CollectiveIdentifier != nil {
		wrong.between("collectiveIdentifier.maxInvoices", l.CollectiveIdentifier.MaxInvoices, 0, largestInvoices)
	}
	return wrong
}

func (l *invoiceLimits) check(field string, wrong *fieldErrors) {
	if l == nil {
		wrong.notEmpty(field)
		return
	}
	wrong.between(field+".maxInvoiceSizeInMB", l.MaxSizeMB, 0, largestSizeMB)
	wrong.between(field+".maxInvoiceWithAttachmentSizeInMB", l.MaxSizeWithAttachmentMB, 0, largestSizeWithAttachmentMB)
	wrong.between(field+".maxInvoices", l.MaxInvoices, 0, largestInvoices)
}

// resetContextLimits serves DELETE /testdata/limits/context/session.
func (s *Simulator) resetContextLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.limitChanges.contexts, req.login.Context)
	return done()
}

// limitChanges are the limits of contexts and subjects that test data have changed.
type limitChanges struct {
	contexts map[ksef.Identifier]contextLimits
	subjects map[ksef.Identifier]subjectLimits
}

func newLimitChanges() limitChanges {
	return limitChanges{contexts: map[ksef.Identifier]contextLimits{}, subjects: map[ksef.Identifier]subjectLimits{}}
}

// subjectLimits is EffectiveSubjectLimits and part of SetSubjectLimitsRequest, where each part is
// optional.
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

// subjectLimits serves GET /limits/subject.
func (s *Simulator) subjectLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	quota := s.certificateQuota(req.login.Identifier)
	return ok(subjectLimits{&enrollmentLimit{&quota.Requests}, &certificateCount{&quota.Certificates}})
}

// certificateQuota returns the quota of a subject: that of the options, unless test data have
// changed it. The caller holds the lock.
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

// check validates the request. The limits apply to the current subject whatever
// subjectIdentifierType says, because its effect is not documented.
func (r subjectLimitsRequest) check() fieldErrors {
	var wrong fieldErrors
	if _, known := enumValue(r.SubjectType, ksef.TypeNIP, ksef.TypePESEL,
		ksef.TypeFingerprint); r.SubjectType != "" && !known {
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

// setSubjectLimits serves POST /testdata/limits/subject/certificate. Omitted parts return to their
// defaults. Whether KSeF keeps their values is not documented.
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

// resetSubjectLimits serves DELETE /testdata/limits/subject/certificate.
func (s *Simulator) resetSubjectLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.limitChanges.subjects, req.login.Identifier)
	return done()
}
