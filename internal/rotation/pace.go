// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"math/rand/v2"
	"time"
)

// The pause after a step that failed doubles from the shortest to the longest.
const (
	shortestBackoff = 15 * time.Second
	longestBackoff  = time.Hour
)

// The pause between two questions whether KSeF has issued the certificate doubles from the shortest
// to the longest.
const (
	firstPoll   = time.Second
	longestPoll = time.Minute
)

// pace is when the next step may be taken, in this process.
type pace struct {
	due      time.Time
	err      error
	failures int
	polls    int
}

// resume lets the next step be taken at once.
func (r *Rotation) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace = pace{}
}

// RetryNow makes a step that waits after a failure due now.
func (r *Rotation) RetryNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace.due = time.Time{}
}

func (r *Rotation) due() (time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pace.due, r.pace.err
}

// waitFor lets some time pass that is no failure; reason is what for, nil where KSeF is only not
// done.
func (r *Rotation) waitFor(wait time.Duration, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace.due, r.pace.err, r.pace.failures = time.Now().Add(wait), reason, 0
}

// later lets time pass after a failure, spread so that mounts that failed together do not come back
// together.
func (r *Rotation) later(err error) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	whole := longestBackoff
	if r.pace.failures < 8 {
		whole = min(longestBackoff, shortestBackoff<<r.pace.failures)
	}
	wait := whole/2 + rand.N(whole/2+1) //nolint:gosec // spreads load, guards nothing
	r.pace.due, r.pace.err = time.Now().Add(wait), err
	r.pace.failures++
	return r.pace.due
}

// pollWait grows with each question.
func (r *Rotation) pollWait() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := longestPoll
	if r.pace.polls < 6 {
		wait = min(longestPoll, firstPoll<<r.pace.polls)
	}
	r.pace.polls++
	return wait
}
