// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"sync"
	"time"
)

// job is one thing that the pump must bring to an end: a revocation, or the
// search for a token whose reply was lost.
type job struct {
	lane *lane
	// since orders the jobs of a lane.
	since time.Time
	// done is closed when the job is finished, stuck when an attempt has failed
	// and waiting longer makes no sense.
	done, stuck chan struct{}

	mu        sync.Mutex
	record    Record
	due       time.Time
	attempts  int
	lastErr   error
	isStuck   bool
	leases    int
	persisted bool
	// persisting is not nil while somebody writes the job's record.
	persisting chan struct{}
}

func newJob(lane *lane, record Record, since time.Time) *job {
	return &job{lane: lane, since: since, record: record, done: make(chan struct{}), stuck: make(chan struct{})}
}

func (j *job) snapshot() Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.record
}

// join counts the leases that wait for the job: whoever of them is there when
// it is done needs no record any more.
func (j *job) join(byLease bool) {
	if !byLease {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leases++
}

func (j *job) leave(byLease bool) {
	if !byLease {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leases--
}

// claimPersist gives the record to write to the first who asks.
func (j *job) claimPersist() (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.persisted || j.persisting != nil || isClosed(j.done) {
		return Record{}, false
	}
	j.persisting = make(chan struct{})
	return j.record, true
}

func (j *job) endPersist(written bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.persisted = written
	close(j.persisting)
	j.persisting = nil
}

// settledPersist waits until nobody is writing the record, so that it is not
// written once more after it was removed.
func (j *job) settledPersist() {
	for {
		j.mu.Lock()
		writing := j.persisting
		j.mu.Unlock()
		if writing == nil {
			return
		}
		<-writing
	}
}

func (j *job) fail(err error, due time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts++
	j.lastErr, j.due = err, due
	if !j.isStuck {
		j.isStuck = true
		close(j.stuck)
	}
}

// postpone sets the next attempt of a job that has not failed.
func (j *job) postpone(due time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts++
	j.due = due
}

func (j *job) isDue(now time.Time) (time.Time, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.due, !j.due.After(now)
}

func (j *job) failure() (attempts int, lastErr error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.attempts, j.lastErr
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
