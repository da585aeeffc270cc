// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import "time"

// CloseIdle closes the limiter where it has had nothing to remember for so long, and says whether
// it is closed. Its journal can then be deleted. What the limiters that share its windows have sent
// is to be remembered, too.
func (l *Limiter) CloseIdle(idle time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	now := time.Now()
	if l.writing != nil || !l.pool.empty(now) {
		l.emptySince = time.Time{}
		return false
	}
	if l.emptySince.IsZero() {
		l.emptySince = now
	}
	if now.Sub(l.emptySince) < idle {
		return false
	}
	l.closed = true
	delete(l.pool.limiters, l.id)
	l.pool.dropIfIdle()
	return true
}

// reportedLimitsLast is longer than KSeF's sessions last, 7 days: KSeF is asked for its limits with each
// login, so that nobody can rely on what it has told longer ago.
const reportedLimitsLast = 8 * 24 * time.Hour

// empty tells whether nothing is lost when the windows are forgotten.
func (p *pool) empty(now time.Time) bool {
	for _, e := range p.endpoints {
		e.prune(now)
		busy := len(e.counted(now)) > 0 || e.inFlight > 0 || len(e.queue) > 0 || e.blocked.After(now)
		reported := e.limits != DocumentedLimits(e.name) && now.Sub(e.limitsSet) < reportedLimitsLast
		if busy || reported {
			return false
		}
	}
	return true
}
