// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// afterFailure spaces the attempts at a step that fails, polling the questions whether KSeF has
// issued the certificate.
var (
	afterFailure = background.Backoff{Shortest: 15 * time.Second, Longest: time.Hour}
	polling      = background.Backoff{Shortest: time.Second, Longest: time.Minute}
)

// pace is when this process may take the next step.
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

// waitFor postpones the next step without a failure; reason is shown.
func (r *Rotation) waitFor(wait time.Duration, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace.due, r.pace.err, r.pace.failures = time.Now().Add(wait), reason, 0
}

// later postpones the next step after a failure, and returns when it is due.
func (r *Rotation) later(err error) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace.due, r.pace.err = time.Now().Add(afterFailure.Jittered(r.pace.failures)), err
	r.pace.failures++
	return r.pace.due
}

// poll postpones the next question to KSeF, longer with each.
func (r *Rotation) poll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace = pace{due: time.Now().Add(polling.Exact(r.pace.polls)), polls: r.pace.polls + 1}
}
