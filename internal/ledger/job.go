// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
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
	// vouched is the operator's word that KSeF does not know the token.
	vouched bool
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
	j.record.LeaseEnded = true
}

func (j *job) leave(byLease bool) {
	if !byLease {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leases--
}

// claimPersist gives the record to write to one caller. The others wait until
// it is written; it is false where nothing is left to write.
func (j *job) claimPersist() (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.awaitPersist()
	if j.persisted {
		return Record{}, false
	}
	j.persisting = make(chan struct{})
	return j.record, true
}

// awaitPersist waits, without the lock, until nobody writes the record.
func (j *job) awaitPersist() {
	for j.persisting != nil {
		writing := j.persisting
		j.mu.Unlock()
		<-writing
		j.mu.Lock()
	}
}

// die marks the record dead, so that nobody writes it as revoking any more, and
// says whether nobody will ask for it: its lease is waiting for that, or none exists.
func (j *job) die() (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.awaitPersist()
	j.persisted = true
	j.record.State, j.record.Ended = Dead, time.Now().UTC()
	return j.record, j.leases > 0 || j.record.NoLease
}

func (j *job) endPersist(written bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.persisted = written
	close(j.persisting)
	j.persisting = nil
}

func (j *job) fail(err error, due time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts++
	var unknown *unknownError
	if j.vouched && errors.As(err, &unknown) {
		due = time.Time{} // the word came too late for this attempt
	}
	j.lastErr, j.due = err, due
	if !j.isStuck {
		j.isStuck = true
		close(j.stuck)
	}
}

// retry makes a job due that KSeF has failed.
func (j *job) retry() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.isStuck {
		j.due = time.Time{}
	}
}

// postpone sets the next attempt of a job that has not failed.
func (j *job) postpone(due time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts++
	j.due = due
}

// standing says when the job is due, and whether KSeF has failed it before.
func (j *job) standing() (due time.Time, hasFailed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.due, j.lastErr != nil
}

func (j *job) failure() (attempts int, lastErr error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.attempts, j.lastErr
}
