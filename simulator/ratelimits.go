// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "math"

func (s *Simulator) rateLimitEndpoints() []endpoint {
	return []endpoint{{name: "GET /rate-limits", bearer: []string{accessJWT}, serve: s.rateLimits}}
}

// effectiveLimits is EffectiveApiRateLimitValues.
type effectiveLimits struct {
	PerSecond int `json:"perSecond"`
	PerMinute int `json:"perMinute"`
	PerHour   int `json:"perHour"`
}

// rateLimits is GET /rate-limits. The simulator's own endpoints are in the group "other"; the rest have KSeF's values. A
// limit that is lifted is shown as the largest number there is.
func (s *Simulator) rateLimits(*call) reply {
	s.mu.Lock()
	own := s.limiter.limits.Context
	s.mu.Unlock()
	return ok(map[string]effectiveLimits{
		"onlineSession":        {10, 30, 120},
		"batchSession":         {10, 20, 60},
		"invoiceSend":          {10, 30, 180},
		"invoiceStatus":        {30, 120, 1200},
		"sessionList":          {5, 10, 60},
		"sessionInvoiceList":   {10, 20, 200},
		"sessionMisc":          {10, 120, 1200},
		"invoiceMetadata":      {8, 16, 20},
		"invoiceExport":        {8, 16, 20},
		"invoiceExportStatus":  {10, 60, 600},
		"invoiceDownload":      {8, 16, 64},
		"collectiveIdentifier": {10, 60, 120},
		"other":                {shown(own.PerSecond), shown(own.PerMinute), shown(own.PerHour)},
	})
}

func shown(limit int) int {
	if limit < 0 {
		return math.MaxInt32
	}
	return limit
}
