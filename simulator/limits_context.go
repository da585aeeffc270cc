// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
)

func (s *Simulator) contextLimitEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /limits/context", bearer: access, serve: s.contextLimits},
		{name: "POST /testdata/limits/context/session", bearer: access, serve: s.setContextLimits},
		{name: "DELETE /testdata/limits/context/session", bearer: access, serve: s.resetContextLimits},
	}
}

// contextLimits is EffectiveContextLimits and SetSessionLimitsRequest. They are shown only: there
// are no invoices that they could bound. collectiveIdentifier came after OpenAPI 2.7.0 (official
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

// The largest numbers that OpenAPI 2.7.0 has for OnlineSessionContextLimitsOverride.
const (
	largestSizeMB               = 5
	largestSizeWithAttachmentMB = 10
	largestInvoices             = 100000
)

func defaultContextLimits() contextLimits {
	return contextLimits{&invoiceLimits{1, 3, 10000}, &invoiceLimits{1, 3, 10000}, &collectiveLimits{500}}
}

// contextLimits is GET /limits/context.
func (s *Simulator) contextLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if changed, found := s.limitChanges.contexts[req.login.Context]; found {
		return ok(changed)
	}
	return ok(defaultContextLimits())
}

// setContextLimits is POST /testdata/limits/context/session.
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

// resetContextLimits is DELETE /testdata/limits/context/session.
func (s *Simulator) resetContextLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.limitChanges.contexts, req.login.Context)
	return done()
}
