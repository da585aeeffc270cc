// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
)

// EndpointRateLimits reports the limits in force, as KSeF's documentation names it.
const EndpointRateLimits = "GET /rate-limits"

// RateLimits is EffectiveApiRateLimitValues: KSeF's limits for one group of endpoints. Requests are
// counted in sliding windows. In each window, -1 is no limit, and 0 stands for one that KSeF has
// not reported.
type RateLimits struct {
	PerSecond int `json:"perSecond"`
	PerMinute int `json:"perMinute"`
	PerHour   int `json:"perHour"`
}

// RateLimitGroups is EffectiveApiRateLimits, of which it has what this client's endpoints belong
// to. A group that KSeF has not reported is nil.
type RateLimitGroups struct {
	// Other is for endpoints without a group of their own: those of tokens, sessions and
	// certificates.
	Other *RateLimits `json:"other"`
	// Anonymous is for endpoints before a login, counted per source address (since KSeF 2.8).
	Anonymous *RateLimits `json:"anonymous"`
	// Global is for all requests together, counted per source address (since KSeF 2.8).
	Global *RateLimits `json:"global"`
}

// RateLimits returns the limits in force for the context of the access token and for the address
// from which it is sent.
func (c *Client) RateLimits(ctx context.Context) (RateLimitGroups, error) {
	var out RateLimitGroups
	err := c.do(ctx, call{endpoint: EndpointRateLimits, success: http.StatusOK, bearer: c.tokens}, &out)
	return out, err
}
