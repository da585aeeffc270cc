// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ratelimit keeps the requests of all mounts of a process within KSeF's sliding windows: so
// many per second, minute and hour for each endpoint in a taxpayer's context, and none before a
// Retry-After is over.
//
// A request takes a [Permit] before it is sent and ends it when the reply is there. KSeF counts a
// request at a moment between the two that nobody here can know, so a permit occupies every window
// from before the sending until the length of the window after the reply. Whatever the latency, no
// window of KSeF's then holds more requests than its limit: had one too many, then all its requests
// would still have occupied the window here when the last of them was sent.
//
// The windows survive a restart through a [Journal]: no request is sent unless the journal counts
// it already.
package ratelimit

import (
	"strings"
	"time"
)

// Limits says how many requests KSeF takes from a context at one endpoint within any second, minute
// and hour. 0 stands for no limit in that window.
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

// AllRequests stands for all requests of a source address together, whatever their endpoint and
// context. A request takes a permit of it besides that of its endpoint. The key is that of the
// address, which has no context.
const AllRequests = "all requests"

// DocumentedLimits are the limits that hold for an endpoint such as "DELETE
// /tokens/{referenceNumber}" until [Limiter.SetLimits] says otherwise.
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

// KSeF's windows as they are kept here. Each is longer by a thousandth, twice what NTP slews a
// clock, and by a fixed part for all that is not a matter of rate: how finely KSeF tells time, and
// how it moves its windows on. A burst goes at the second's pace, so that its fixed part is as
// small as a timer is late: it costs a hundredth of that pace.
const (
	keptSecond = time.Second + time.Second/1000 + 10*time.Millisecond
	keptMinute = time.Minute + time.Minute/1000 + 250*time.Millisecond
	keptHour   = time.Hour + time.Hour/1000 + 2*time.Second
)

// KeptRetryAfter is how long a Retry-After keeps requests away: it has no fixed part, since KSeF
// rounds it up to seconds.
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

// reach is the length of the longest window that has a limit.
func (l Limits) reach() time.Duration {
	var reach time.Duration
	for _, w := range l.windows() {
		if w.limit > 0 {
			reach = w.length
		}
	}
	return reach
}

// any tells whether there is a limit, so that requests must be known to the next process: even
// where that is only one in the second, KSeF may look at a request of a killed process later than
// that.
func (l Limits) any() bool {
	return l.reach() > 0
}

// pace is how long a request takes in the long run: that of the slowest window.
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
