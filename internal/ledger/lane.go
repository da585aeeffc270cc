// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// kind is what the jobs of a lane do; each kind spends another of KSeF's limits.
type kind string

const (
	kindRevoke  kind = "revoke"
	kindRecover kind = "recover"
)

// laneKey says which jobs can hold up each other: those of one kind in one
// context. A context that fails holds up no other.
type laneKey struct {
	target Target
	kind   kind
}

// workers is how many jobs of the kind are done at once. One search serves all that are due.
func (k kind) workers() int {
	if k == kindRecover {
		return 1
	}
	return laneWorkers
}

// laneWorkers is how many jobs of a lane are under way at once. It covers
// KSeF's 10 requests a second while one takes less than 400 ms.
const laneWorkers = 4

// The pause after a failure that concerns the whole lane (KSeF out of reach, no
// login) doubles from the shortest to the longest.
const (
	shortestBackoff = 5 * time.Second
	longestBackoff  = 4 * time.Minute
)

// lane is the queue of one kind of job in one context, oldest first. Its
// fields belong to the pump's lock.
type lane struct {
	key      laneKey
	queue    []*job
	running  int
	workers  int
	failures int
	retryAt  time.Time
	lastErr  error
	wake     chan struct{}
}

func newLane(key laneKey) *lane { return &lane{key: key, wake: make(chan struct{}, laneWorkers)} }

func (l *lane) add(j *job) {
	at := sort.Search(len(l.queue), func(i int) bool { return l.queue[i].since.After(j.since) })
	l.queue = append(l.queue, nil)
	copy(l.queue[at+1:], l.queue[at:])
	l.queue[at] = j
	l.nudge()
}

// nudge tells the waiting workers to look again.
func (l *lane) nudge() {
	for range laneWorkers {
		select {
		case l.wake <- struct{}{}:
		default:
			return
		}
	}
}

// next takes a job that is due: the oldest, but those that have failed before
// come after those that have not, so that they cannot keep the others from
// their turn. Where none is due, it says how long to wait.
func (l *lane) next(now time.Time) (*job, time.Duration) {
	if wait := l.retryAt.Sub(now); wait > 0 {
		return nil, wait
	}
	if l.failures > 0 && l.running > 0 {
		// One job finds out whether things work again; it nudges the others.
		return nil, longestBackoff
	}
	best, shortest := -1, time.Duration(0)
	for i, candidate := range l.queue {
		due, hasFailed := candidate.standing()
		if wait := due.Sub(now); wait > 0 {
			if shortest == 0 || wait < shortest {
				shortest = wait
			}
			continue
		}
		if best < 0 || !hasFailed {
			best = i
		}
		if !hasFailed {
			break
		}
	}
	if best < 0 {
		return nil, shortest
	}
	job := l.queue[best]
	l.queue = append(l.queue[:best], l.queue[best+1:]...)
	l.running++
	return job, 0
}

// takeDue takes all that are due.
func (l *lane) takeDue(now time.Time) []*job {
	var taken []*job
	l.queue = slices.DeleteFunc(l.queue, func(candidate *job) bool {
		due, _ := candidate.standing()
		if due.After(now) {
			return false
		}
		taken = append(taken, candidate)
		return true
	})
	l.running += len(taken)
	return taken
}

// remove takes a job back that is not being done; false where it is.
func (l *lane) remove(j *job) bool {
	at := slices.Index(l.queue, j)
	if at < 0 {
		return false
	}
	l.queue = slices.Delete(l.queue, at, at+1)
	return true
}

// position counts a job from 1 among all that the lane has to do.
func (l *lane) position(j *job) (position, pending int) {
	pending = len(l.queue) + l.running
	for i, candidate := range l.queue {
		if candidate == j {
			return l.running + i + 1, pending
		}
	}
	return 1, max(pending, 1)
}

func (l *lane) failed(now time.Time, err error) {
	// Jobs that were under way together fail together: one failure, one step.
	if l.retryAt.After(now) {
		return
	}
	l.lastErr = err
	l.retryAt = now.Add(backoff(l.failures))
	l.failures++
}

func (l *lane) succeeded() {
	l.failures, l.lastErr = 0, nil
	l.retryAt = time.Time{}
	l.nudge()
}

// backoff doubles with each failure and is spread over its upper half, so that
// mounts that failed together do not come back together.
func backoff(failures int) time.Duration {
	whole := longestBackoff
	if failures < 6 {
		whole = min(longestBackoff, shortestBackoff<<failures)
	}
	return whole/2 + rand.N(whole/2+1) //nolint:gosec // spreads load, guards nothing
}
