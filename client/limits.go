// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
)

// EndpointRateLimits tells the limits in force, as KSeF's documentation names it.
const EndpointRateLimits = "GET /rate-limits"

// RateLimits are KSeF's limits for one group of endpoints; requests are counted
// in sliding windows.
type RateLimits struct {
	PerSecond int `json:"perSecond"`
	PerMinute int `json:"perMinute"`
	PerHour   int `json:"perHour"`
}

// RateLimits returns the limits in force for endpoints that have no group of
// their own: those of tokens, sessions and certificates.
func (c *Client) RateLimits(ctx context.Context, access Bearing) (RateLimits, error) {
	var out struct {
		Other RateLimits `json:"other"`
	}
	err := c.do(ctx, call{
		endpoint: EndpointRateLimits, method: http.MethodGet, path: "/rate-limits", bearer: access, success: http.StatusOK,
	}, &out)
	return out.Other, err
}
