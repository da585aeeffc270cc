// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import "time"

// CloseIdle closes the limiter where it has had nothing to remember for so long, and says whether
// it is closed. Its journal can then be deleted. What the limiters that share its windows have sent
// is to be remembered, too.
func (a *Limiter) CloseIdle(idle time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return true
	}
	now := time.Now()
	if a.writing != nil || !a.pool.empty(now) {
		a.emptySince = time.Time{}
		return false
	}
	if a.emptySince.IsZero() {
		a.emptySince = now
	}
	if now.Sub(a.emptySince) < idle {
		return false
	}
	a.closed = true
	delete(a.pool.limiters, a.id)
	a.pool.dropIfIdle()
	return true
}

// reportedLast is longer than KSeF's sessions last, 7 days: KSeF is asked for its limits with each
// login, so that nobody can rely on what it has told longer ago.
const reportedLast = 8 * 24 * time.Hour

// empty tells whether nothing is lost when the windows are forgotten.
func (p *pool) empty(now time.Time) bool {
	for _, e := range p.endpoints {
		e.prune(now)
		busy := len(e.counting(now)) > 0 || e.inFlight > 0 || len(e.queue) > 0 || e.blocked.After(now)
		told := e.limits != DocumentedLimits(e.name) && now.Sub(e.limitsSet) < reportedLast
		if busy || told {
			return false
		}
	}
	return true
}
