// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"sync"
	"time"
)

// task is one thing that the reconciler must bring to an end: a revocation, or the search for a
// token whose reply was lost.
type task struct {
	queue *queue
	// since orders the tasks of a queue.
	since time.Time
	// done is closed when the task is finished, stuck when an attempt has failed and waiting longer
	// makes no sense.
	done, stuck chan struct{}

	mu        sync.Mutex
	record    Record
	due       time.Time
	attempts  int
	lastErr   error
	isStuck   bool
	leases    int
	persisted bool
	// operatorConfirmed is the operator's word that KSeF does not know the token.
	operatorConfirmed bool
	// persisting is not nil while somebody writes the task's record.
	persisting chan struct{}
}

func newTask(queue *queue, record Record, since time.Time) *task {
	return &task{queue: queue, since: since, record: record, done: make(chan struct{}), stuck: make(chan struct{})}
}

func (j *task) snapshot() Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.record
}

// join counts the leases that wait for the task: whoever of them is there when it is done needs no
// record any more.
func (j *task) join(byLease bool) {
	if !byLease {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leases++
	j.record.LeaseEnded = true
}

func (j *task) leave(byLease bool) {
	if !byLease {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leases--
}

// claimPersist gives the record to write to one caller. The others wait until it is written; it is
// false where nothing is left to write.
func (j *task) claimPersist() (Record, bool) {
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
func (j *task) awaitPersist() {
	for j.persisting != nil {
		writing := j.persisting
		j.mu.Unlock()
		<-writing
		j.mu.Lock()
	}
}

// markDead marks the record dead, so that nobody writes it as revoking any more, and says whether
// nobody will ask for it: its lease is waiting for that, or none exists.
func (j *task) markDead() (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.awaitPersist()
	j.persisted = true
	j.record.State, j.record.Ended = Dead, time.Now().UTC()
	return j.record, j.leases > 0 || j.record.NoLease
}

func (j *task) endPersist(written bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.persisted = written
	close(j.persisting)
	j.persisting = nil
}

func (j *task) fail(err error, due time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts++
	var unknown *unknownError
	if j.operatorConfirmed && errors.As(err, &unknown) {
		due = time.Time{} // the word came too late for this attempt
	}
	j.lastErr, j.due = err, due
	if !j.isStuck {
		j.isStuck = true
		close(j.stuck)
	}
}

// retry makes a task due that KSeF has failed.
func (j *task) retry() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.isStuck {
		j.due = time.Time{}
	}
}

// postpone sets the next attempt of a task that has not failed.
func (j *task) postpone(due time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts++
	j.due = due
}

// status says when the task is due, and whether KSeF has failed it before.
func (j *task) status() (due time.Time, hasFailed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.due, j.lastErr != nil
}

func (j *task) failure() (attempts int, lastErr error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.attempts, j.lastErr
}
