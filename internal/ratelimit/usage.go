// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"cmp"
	"slices"
	"time"
)

// WindowUsage is how much of a window is used. Limit 0 is no limit; what no limit reaches is not counted.
type WindowUsage struct {
	Used, Limit int
}

// Usage is the state of one endpoint for all limiters of the key.
type Usage struct {
	Endpoint             string
	Second, Minute, Hour WindowUsage
	// InFlight requests are part of what is used.
	InFlight int
	Waiting  int
	// BlockedUntil is zero when no Retry-After holds.
	BlockedUntil time.Time
	// Next is the earliest moment at which a request could go that asks now and goes behind all who
	// wait.
	Next time.Time
}

// Usage tells the state of all endpoints that any limiter of the key has named so far, in the order
// of their names.
func (l *Limiter) Usage() []Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	all := make([]Usage, 0, len(l.pool.endpoints))
	for _, e := range l.pool.endpoints {
		all = append(all, e.usage(now))
	}
	slices.SortFunc(all, func(a, b Usage) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return all
}

func (e *endpoint) usage(now time.Time) Usage {
	e.prune(now)
	var shares [3]WindowUsage
	for i, w := range e.limits.windows() {
		if w.limit > 0 {
			shares[i] = WindowUsage{Used: e.used(now, w.length) + e.inFlight, Limit: w.limit}
		}
	}
	u := Usage{
		Endpoint: e.name,
		Second:   shares[0], Minute: shares[1], Hour: shares[2],
		InFlight: e.inFlight,
		Waiting:  len(e.queue),
		Next:     e.project(now).nextAfter(len(e.queue)),
	}
	if e.blocked.After(now) {
		u.BlockedUntil = e.blocked
	}
	return u
}
