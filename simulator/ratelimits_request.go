// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "slices"

// largestMultiple is how many times production's limit a test may set. The official tests see 1200
// as the most for onlineSession's perHour, which is 120 in production; the other ranges are taken
// to follow from that.
const largestMultiple = 10

// rateLimitsRequest is SetRateLimitsRequest.
type rateLimitsRequest struct {
	RateLimits map[string]*rateLimitValues `json:"rateLimits"`
}

// check returns a sentence for each field that is not valid, in the order of the groups.
//
// The official badRequestTest sends onlineSession with one bad field and nothing else. A version of
// it counts eleven details, a later one twelve. Here it is eleven: groups that came later than the
// first eleven may be left out, though OpenAPI 2.7.0 requires invoiceExportStatus and
// collectiveIdentifier. Another official test (rateLimitsPositive) does leave the former out.
func (r rateLimitsRequest) check() []string {
	if r.RateLimits == nil {
		return []string{mustNotBeEmpty("rateLimits")}
	}
	var faults []string
	for _, known := range productionLimits() {
		field := "rateLimits." + known.group
		given := r.RateLimits[known.group]
		switch {
		case given != nil:
			faults = append(faults, given.check(field, known.Windows)...)
		case !known.optional:
			faults = append(faults, mustNotBeEmpty(field))
		}
	}
	return faults
}

func (v rateLimitValues) check(field string, production Windows) []string {
	return slices.Concat(
		checkLimit(field+".perSecond", v.PerSecond, production.PerSecond),
		checkLimit(field+".perMinute", v.PerMinute, production.PerMinute),
		checkLimit(field+".perHour", v.PerHour, production.PerHour),
	)
}

// checkLimit wants -1 where production has no limit: what KSeF accepts there is not known.
func checkLimit(field string, value, production int) []string {
	if production < 0 {
		return mustBeBetween(field, value, -1, -1)
	}
	return mustBeBetween(field, value, 1, largestMultiple*production)
}

// apply returns the limits with those of the request in their places.
func (r rateLimitsRequest) apply(limits groupLimits) groupLimits {
	changed := slices.Clone(limits)
	for i, one := range changed {
		if given := r.RateLimits[one.group]; given != nil {
			changed[i].Windows = Windows(*given)
		}
	}
	return changed
}
