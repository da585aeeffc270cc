// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"cmp"
	"slices"
	"time"
)

// windows are the sliding windows of one endpoint.
type windows struct {
	limits    Limits
	limitsSet time.Time // zero while the documented limits apply
	sent      []sentAt  // ended requests, oldest first
	inFlight  int
	blocked   time.Time // no request is sent before
	// remembered is how long an ended request is kept at least, for a limit that is reported later.
	remembered time.Duration
}

// sentAt is the end of a request of a limiter.
type sentAt struct {
	at      time.Time
	limiter string
}

// opensAt returns the moment from which a request can be sent; false if that depends on one in
// flight.
func (w *windows) opensAt() (time.Time, bool) {
	at := w.blocked
	for _, x := range w.limits.windows() {
		if x.limit <= 0 {
			continue
		}
		if w.inFlight >= x.limit {
			return time.Time{}, false
		}
		if i := len(w.sent) + w.inFlight - x.limit; i >= 0 {
			at = later(at, w.sent[i].at.Add(x.length))
		}
	}
	return at, true
}

func (w *windows) isOpen(now time.Time) bool {
	at, known := w.opensAt()
	return known && !at.After(now)
}

// record inserts in order: requests of a crashed process count from a future moment.
func (w *windows) record(s sentAt) {
	if max(w.limits.reach(), w.remembered) > 0 {
		at := len(w.sent)
		for at > 0 && w.sent[at-1].at.After(s.at) {
			at--
		}
		w.sent = slices.Insert(w.sent, at, s)
	}
}

// replace replaces the requests of a limiter.
func (w *windows) replace(limiter string, times []sentAt) {
	w.sent = slices.DeleteFunc(w.sent, func(s sentAt) bool { return s.limiter == limiter })
	w.sent = append(w.sent, times...)
	slices.SortStableFunc(w.sent, func(a, b sentAt) int { return a.at.Compare(b.at) })
}

// prune drops requests that no window reaches any more.
func (w *windows) prune(now time.Time) {
	w.sent = w.sent[len(w.sent)-w.used(now, max(w.limits.reach(), w.remembered)):]
}

// counted returns the ended requests within a limited window.
func (w *windows) counted(now time.Time) []sentAt {
	return w.sent[len(w.sent)-w.used(now, w.limits.reach()):]
}

// used returns the number of ended requests in the window of that length which ends now.
func (w *windows) used(now time.Time, length time.Duration) int {
	begin := now.Add(-length)
	first, _ := slices.BinarySearchFunc(w.sent, begin, func(s sentAt, begin time.Time) int {
		if s.at.After(begin) {
			return 1
		}
		return -1
	})
	return len(w.sent) - first
}

// projection simulates the windows as if every response came at once: no real sequence is faster.
type projection struct{ windows }

func (w *windows) project(now time.Time) *projection {
	counting := 0 // older requests fill no window
	for _, x := range w.limits.windows() {
		counting = max(counting, x.limit)
	}
	recent := slices.Clone(w.sent[max(0, len(w.sent)-counting):])
	p := &projection{windows{limits: w.limits, blocked: later(now, w.blocked), sent: recent}}
	for range w.inFlight {
		p.record(sentAt{at: now})
	}
	return p
}

// next returns the moment at which the next request can be sent.
func (p *projection) next() time.Time {
	at, _ := p.opensAt() // none is in flight
	return at
}

// send sends the next request.
func (p *projection) send() {
	p.blocked = p.next()
	p.record(sentAt{at: p.blocked})
}

// nextAfter returns the moment at which a request with so many others ahead can be sent.
func (p *projection) nextAfter(ahead int) time.Time {
	for range ahead {
		p.send()
	}
	return p.next()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// WindowUsage is how much of a window is used. With Limit 0 there is no limit, and nothing is
// counted.
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
	// BlockedUntil is zero without a Retry-After.
	BlockedUntil time.Time
	// Next is the earliest moment at which a request that arrives now could be sent.
	Next time.Time
}

// Usage returns the state of all endpoints that a limiter of the key has used, sorted by name.
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
