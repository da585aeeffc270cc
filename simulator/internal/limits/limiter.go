// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package limits counts requests as KSeF does: in sliding windows, with blocks that grow, and with
// Retry-After in seconds.
package limits

import (
	"fmt"
	"math"
	"sort"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// A request during a block extends the block by blockExtension, up to longestBlock from then. KSeF
// documents that blocks grow on repetition (limity-api.md), but not how.
const (
	blockExtension = 10 * time.Second
	longestBlock   = time.Hour
)

// window is one sliding window: at most limit requests in any period of this length.
type window struct {
	length time.Duration
	limit  int // 0 or less: no limit
	name   string
}

// Limiter counts requests in sliding windows and blocks a counter that exceeds one.
type Limiter struct {
	defaults  Groups
	overrides map[ksef.Identifier]Groups // of contexts, set by POST /testdata/rate-limits
	counters  map[string]*counter
}

// New makes a limiter with the limits of the options.
func New(limits Limits) *Limiter {
	return &Limiter{
		defaults: limits.withDefaults().groups(), overrides: map[ksef.Identifier]Groups{},
		counters: map[string]*counter{},
	}
}

// Of returns the limits of a context.
func (l *Limiter) Of(context ksef.Identifier) Groups {
	if own, changed := l.overrides[context]; changed {
		return own
	}
	return l.defaults
}

// Override changes the limits of a context, except anonymous and global, which are not per context.
func (l *Limiter) Override(context ksef.Identifier, limits Groups) {
	for _, group := range []string{GroupAnonymous, GroupGlobal} {
		limits.set(group, l.defaults.Of(group))
	}
	l.overrides[context] = limits
}

// Reset restores the default limits of a context.
func (l *Limiter) Reset(context ksef.Identifier) { delete(l.overrides, context) }

// Admit counts a request, or refuses it and returns the seconds to wait and the reason.
func (l *Limiter) Admit(key string, windows Windows, now time.Time) (retryAfter int, detail string, admitted bool) {
	if windows.unlimited() {
		return 0, "", true
	}
	c := l.counters[key]
	if c == nil {
		c = &counter{}
		l.counters[key] = c
	}
	if now.Before(c.blockedUntil) {
		c.blockedUntil = earlier(c.blockedUntil.Add(blockExtension), now.Add(longestBlock))
		return c.refusal(now)
	}
	c.discard(now.Add(-time.Hour))
	for _, w := range windows.list() {
		if free := c.freeAt(w, now); free.After(c.blockedUntil) && free.After(now) {
			c.blockedUntil, c.exceeded = free, w
		}
	}
	if now.Before(c.blockedUntil) {
		return c.refusal(now)
	}
	c.admitted = append(c.admitted, now)
	return 0, "", true
}

// counter has the times of the admitted requests, oldest first, and the current block.
type counter struct {
	admitted     []time.Time
	blockedUntil time.Time
	exceeded     window
}

// freeAt returns when a window admits one more request, or the zero time when it does now.
func (c *counter) freeAt(w window, now time.Time) time.Time {
	within := len(c.admitted) - c.count(now.Add(-w.length))
	if w.limit <= 0 || within < w.limit {
		return time.Time{}
	}
	return c.admitted[len(c.admitted)-w.limit].Add(w.length)
}

// count returns how many requests were admitted up to a time.
func (c *counter) count(until time.Time) int {
	return sort.Search(len(c.admitted), func(i int) bool { return c.admitted[i].After(until) })
}

func (c *counter) discard(until time.Time) {
	c.admitted = c.admitted[c.count(until):]
}

func (c *counter) refusal(now time.Time) (int, string, bool) {
	seconds := max(1, int(math.Ceil(c.blockedUntil.Sub(now).Seconds())))
	detail := fmt.Sprintf("Przekroczono limit %d żądań na %s. Spróbuj ponownie po %d sekundach.", c.exceeded.limit,
		c.exceeded.name, seconds)
	return seconds, detail, false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
