// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ratelimit keeps the requests of all mounts of a process within KSeF's sliding windows:
// limits per second, minute and hour for each endpoint in a taxpayer's context, and none before a
// Retry-After is over.
//
// A request takes a [Permit] before it is sent and ends it when the response has arrived. KSeF
// counts the request at an unknown moment in between, so a permit occupies every window from before
// the sending until the length of the window after the response. Whatever the latency, no window of
// KSeF's then has more requests than its limit: with one too many, all of them would still have
// occupied the window here when the last was sent.
//
// The windows survive a restart through a [Journal]: no request is sent before the journal counts
// it.
package ratelimit

import (
	"strings"
	"time"
)

// Limits are how many requests KSeF takes at one endpoint within any second, minute and hour. 0 is
// no limit in that window.
type Limits struct {
	PerSecond int `json:"second"`
	PerMinute int `json:"minute"`
	PerHour   int `json:"hour"`
}

// StandardLimits are KSeF's limits of each endpoint for tokens, sessions and certificates
// (x-rate-limits in the OpenAPI document 2.7.0, group "other").
func StandardLimits() Limits {
	return Limits{PerSecond: 10, PerMinute: 30, PerHour: 120}
}

// AuthLimits are KSeF's limits of each endpoint for logging in and for public keys, counted per
// source address (x-rate-limits in the OpenAPI document 2.7.0).
func AuthLimits() Limits {
	return Limits{PerSecond: 60}
}

// AllRequests is the endpoint of all requests of a source address together. A request takes a
// permit of it besides that of its own endpoint. Its key has no context.
const AllRequests = "all requests"

// DocumentedLimits returns the limits of an endpoint, such as "DELETE /tokens/{referenceNumber}",
// that apply until [Limiter.SetLimits].
func DocumentedLimits(endpoint string) Limits {
	if endpoint == AllRequests {
		return Limits{}
	}
	_, path, _ := strings.Cut(endpoint, " ")
	anonymous := strings.HasPrefix(path, "/auth/") || strings.HasPrefix(path, "/security/")
	if anonymous && !strings.HasPrefix(path, "/auth/sessions") {
		return AuthLimits()
	}
	return StandardLimits()
}

// Windows are longer here than KSeF's: by a thousandth, twice what NTP slews a clock, and by a
// fixed part for the resolution of KSeF's clock and of its windows. A burst goes at the pace of the
// second, so the fixed part of the second is as small as a timer is late: it costs a hundredth of
// that pace.
const (
	keptSecond = time.Second + time.Second/1000 + 10*time.Millisecond
	keptMinute = time.Minute + time.Minute/1000 + 250*time.Millisecond
	keptHour   = time.Hour + time.Hour/1000 + 2*time.Second
)

// KeptRetryAfter is how long requests stop for a Retry-After. It has no fixed part, since KSeF
// rounds up to seconds.
func KeptRetryAfter(retryAfter time.Duration) time.Duration {
	return retryAfter + retryAfter/1000
}

type window struct {
	length time.Duration
	limit  int
}

func (l Limits) windows() [3]window {
	return [3]window{{keptSecond, l.PerSecond}, {keptMinute, l.PerMinute}, {keptHour, l.PerHour}}
}

// reach returns the length of the longest window with a limit.
func (l Limits) reach() time.Duration {
	var reach time.Duration
	for _, w := range l.windows() {
		if w.limit > 0 {
			reach = w.length
		}
	}
	return reach
}

// any reports whether there is a limit, so that the next process must know of requests: even with a
// limit in the second alone, KSeF may count a request of a crashed process later.
func (l Limits) any() bool {
	return l.reach() > 0
}

// pace returns the time per request in the long run, in the slowest window.
func (l Limits) pace() time.Duration {
	var pace time.Duration
	for _, w := range l.windows() {
		if w.limit > 0 {
			pace = max(pace, w.length/time.Duration(w.limit))
		}
	}
	return pace
}

func (l Limits) withoutNegatives() Limits {
	return Limits{PerSecond: max(l.PerSecond, 0), PerMinute: max(l.PerMinute, 0), PerHour: max(l.PerHour, 0)}
}
