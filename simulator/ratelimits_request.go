// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"

	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

// largestMultiple is how many times production's limit a test may set. The official tests see 1200
// as the most for onlineSession's perHour, which is 120 in production; the other ranges are taken
// to follow from that.
const largestMultiple = 10

// rateLimitsRequest is SetRateLimitsRequest.
type rateLimitsRequest struct {
	RateLimits map[string]*limits.Values `json:"rateLimits"`
}

// check returns a sentence for each field that is not valid, in the order of the groups.
//
// The official badRequestTest sends onlineSession with one bad field and nothing else. A version of
// it counts eleven details, a later one twelve. Here it is eleven: groups that came later than the
// first eleven may be left out, though OpenAPI 2.7.0 requires invoiceExportStatus and
// collectiveIdentifier. Another official test (rateLimitsPositive) does leave the former out.
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

// checkRateLimits wants -1 where production has no limit: what KSeF accepts there is not known.
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

// apply returns the limits with those of the request in their places.
func (r rateLimitsRequest) apply(current limits.Groups) limits.Groups {
	changed := slices.Clone(current)
	for i, one := range changed {
		if given := r.RateLimits[one.Group]; given != nil {
			changed[i].Windows = limits.Windows(*given)
		}
	}
	return changed
}
