// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

func (s *Simulator) rateLimitEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: "GET /rate-limits", bearer: access, serve: s.rateLimits},
		{name: "POST /testdata/rate-limits", bearer: access, serve: s.setRateLimits},
		{name: "DELETE /testdata/rate-limits", bearer: access, serve: s.resetRateLimits},
		{name: "POST /testdata/rate-limits/production", bearer: access, serve: s.setProductionRateLimits},
	}
}

// rateLimits is GET /rate-limits: the limits of the current context.
func (s *Simulator) rateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(s.limiter.Of(req.login.Context))
}

// setRateLimits is POST /testdata/rate-limits. What has been counted stays counted, and a block
// that is on stays on: what KSeF does is not documented.
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

// resetRateLimits is DELETE /testdata/rate-limits: back to the limits of the options.
func (s *Simulator) resetRateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.Reset(req.login.Context)
	return done()
}

// setProductionRateLimits is POST /testdata/rate-limits/production.
func (s *Simulator) setProductionRateLimits(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.Override(req.login.Context, limits.Production())
	return done()
}
