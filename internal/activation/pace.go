// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package activation

import (
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

const (
	// firstExpected is how long an activation is taken to last before one has been seen.
	firstExpected    = time.Second
	shortestExpected = 250 * time.Millisecond
	longestExpected  = 10 * time.Second
	// shortestPause and longestPause bound the time between two polls of a token, sharedPause that
	// between two lists.
	shortestPause = 500 * time.Millisecond
	longestPause  = 3 * time.Second
	sharedPause   = time.Second
)

// lostBackoff is the pause after polls whose replies were lost.
var lostBackoff = background.Backoff{Shortest: shortestPause, Longest: 30 * time.Second}

// waiter is a caller that waits until its token is Active.
type waiter struct {
	// since is when KSeF returned the token, end when the caller gets its response in any case.
	since, end time.Time
	// lastPoll is when the token was last polled, pendingAt its age when it was last Pending.
	lastPoll  time.Time
	pendingAt time.Duration
	decided   chan client.Token
}

// pace estimates how long KSeF takes to activate most tokens, from the last ones.
type pace struct {
	expected time.Duration
	// early counts the samples in a row that have made it shorter.
	early int
}

func newPace() pace { return pace{expected: firstExpected} }

// next is when to poll the waiter's token next: when it is expected to be Active, then at growing
// intervals.
func (p *pace) next(w *waiter) time.Time {
	if !w.lastPoll.IsZero() {
		late := w.lastPoll.Sub(w.since) - p.expected
		return w.lastPoll.Add(min(max(late/4, shortestPause), longestPause))
	}
	expected := w.since.Add(p.expected)
	if last := w.end.Add(-shortestPause); expected.After(last) {
		return last
	}
	return expected
}

// sample estimates how long one activation took; false where the token was not polled when it was
// expected to be Active.
func (p *pace) sample(w *waiter, age time.Duration) (time.Duration, bool) {
	switch {
	case w.pendingAt >= p.expected:
		return (w.pendingAt + age) / 2, true
	case w.pendingAt == 0 && age < p.expected+shortestPause:
		// It may have been Active before; the more often in a row, the longer.
		return min(age, p.expected) - max(p.expected/25, 50*time.Millisecond)<<min(p.early, 3), true
	}
	return 0, false
}

// update takes the mean of the samples of one poll. A single slow token changes little.
func (p *pace) update(samples []time.Duration) {
	if len(samples) == 0 {
		return
	}
	var sum time.Duration
	for _, sample := range samples {
		sum += sample
	}
	mean := min(sum/time.Duration(len(samples)), p.expected*5/4+100*time.Millisecond)
	if mean < p.expected {
		p.early++
	} else {
		p.early = 0
	}
	p.expected = min(max(mean, shortestExpected), longestExpected)
}
