// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

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
	// shortestPause and longestPause bound the time between two looks at a token, sharedPause that
	// between two lists.
	shortestPause = 500 * time.Millisecond
	longestPause  = 3 * time.Second
	sharedPause   = time.Second
)

// lostBackoff is the pause after polls whose replies were lost.
var lostBackoff = background.Backoff{Shortest: shortestPause, Longest: 30 * time.Second}

// waiter is a caller that waits until its token is Active.
type waiter struct {
	// since is when KSeF answered with the token, end when the caller is answered in any case.
	since, end time.Time
	// lastPoll is when the token was last looked at, pendingAt its age when it was last seen
	// Pending.
	lastPoll  time.Time
	pendingAt time.Duration
	decided   chan client.Token
}

// activationPace is how long KSeF takes to activate most tokens, learned from the last ones.
type activationPace struct {
	expected time.Duration
	// early counts the lessons in a row that have made it shorter.
	early int
}

func newActivationPace() activationPace { return activationPace{expected: firstExpected} }

// next is when the waiter's token should be looked at next: when it is expected to be Active, and
// then ever more rarely.
func (p *activationPace) next(w *waiter) time.Time {
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

// lesson is what the activation of one token says about the time that it takes; false where the
// token was not looked at when it was expected to be Active.
func (p *activationPace) lesson(w *waiter, age time.Duration) (time.Duration, bool) {
	switch {
	case w.pendingAt >= p.expected:
		return (w.pendingAt + age) / 2, true
	case w.pendingAt == 0 && age < p.expected+shortestPause:
		// It may have been Active before; the more often in a row, the longer.
		return min(age, p.expected) - max(p.expected/25, 50*time.Millisecond)<<min(p.early, 3), true
	}
	return 0, false
}

// learn takes the mean of the lessons of one look. A single slow token changes little.
func (p *activationPace) learn(lessons []time.Duration) {
	if len(lessons) == 0 {
		return
	}
	var sum time.Duration
	for _, lesson := range lessons {
		sum += lesson
	}
	mean := min(sum/time.Duration(len(lessons)), p.expected*5/4+100*time.Millisecond)
	if mean < p.expected {
		p.early++
	} else {
		p.early = 0
	}
	p.expected = min(max(mean, shortestExpected), longestExpected)
}
