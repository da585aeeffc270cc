// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"slices"
	"sort"
	"sync"
	"time"
)

// kind is what the tasks of a queue do; each kind spends another of KSeF's limits.
type kind string

const (
	kindRevoke  kind = "revoke"
	kindRecover kind = "recover"
)

// queueKey says which tasks can hold up each other: those of one kind in one context. A context
// that fails holds up no other.
type queueKey struct {
	target Target
	kind   kind
}

// workers is how many tasks of the kind are done at once. One search serves all that are due.
func (k kind) workers() int {
	if k == kindRecover {
		return 1
	}
	return queueWorkers
}

// queueWorkers is how many tasks of a queue are in progress at once. It covers KSeF's 10 requests a
// second while one takes less than 400 ms.
const queueWorkers = 4

// queue is the queue of one kind of task in one context, oldest first. Its fields belong to the
// reconciler's lock.
type queue struct {
	key      queueKey
	tasks    []*task
	running  int
	workers  int
	failures int
	retryAt  time.Time
	lastErr  error
	wake     chan struct{}
}

func newQueue(key queueKey) *queue { return &queue{key: key, wake: make(chan struct{}, queueWorkers)} }

func (l *queue) add(j *task) {
	at := sort.Search(len(l.tasks), func(i int) bool { return l.tasks[i].since.After(j.since) })
	l.tasks = append(l.tasks, nil)
	copy(l.tasks[at+1:], l.tasks[at:])
	l.tasks[at] = j
	l.wakeWorkers()
}

// wakeWorkers tells the waiting workers to look again.
func (l *queue) wakeWorkers() {
	for range queueWorkers {
		select {
		case l.wake <- struct{}{}:
		default:
			return
		}
	}
}

// next takes a task that is due: the oldest, but those that have failed before come after those
// that have not, so that they cannot keep the others from their turn. Where none is due, it says
// how long to wait.
func (l *queue) next(now time.Time) (*task, time.Duration) {
	if wait := l.retryAt.Sub(now); wait > 0 {
		return nil, wait
	}
	if l.failures > 0 && l.running > 0 {
		// One task finds out whether things work again; it nudges the others.
		return nil, queueBackoff.Longest
	}
	best, shortest := -1, time.Duration(0)
	for i, candidate := range l.tasks {
		due, hasFailed := candidate.status()
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
	task := l.tasks[best]
	l.tasks = append(l.tasks[:best], l.tasks[best+1:]...)
	l.running++
	return task, 0
}

// takeDue takes all that are due.
func (l *queue) takeDue(now time.Time) []*task {
	var taken []*task
	l.tasks = slices.DeleteFunc(l.tasks, func(candidate *task) bool {
		due, _ := candidate.status()
		if due.After(now) {
			return false
		}
		taken = append(taken, candidate)
		return true
	})
	l.running += len(taken)
	return taken
}

// remove takes a task back that is not being done; false where it is.
func (l *queue) remove(j *task) bool {
	at := slices.Index(l.tasks, j)
	if at < 0 {
		return false
	}
	l.tasks = slices.Delete(l.tasks, at, at+1)
	return true
}

// position counts a task from 1 among all that the queue has to do.
func (l *queue) position(j *task) (position, pending int) {
	pending = len(l.tasks) + l.running
	for i, candidate := range l.tasks {
		if candidate == j {
			return l.running + i + 1, pending
		}
	}
	return 1, max(pending, 1)
}

func (l *queue) failed(now time.Time, err error) {
	// Jobs that were in progress together fail together: one failure, one step.
	if l.retryAt.After(now) {
		return
	}
	l.lastErr = err
	l.retryAt = now.Add(queueBackoff.Jittered(l.failures))
	l.failures++
}

func (l *queue) succeeded() {
	l.failures, l.lastErr = 0, nil
	l.retryAt = time.Time{}
	l.wakeWorkers()
}

// task is one thing that the reconciler must bring to an end: a revocation, or the search for a
// token whose reply was lost.
type task struct {
	queue *queue
	// since orders the tasks of a queue.
	since time.Time
	// writing is full while the task's record is written, or changed so that it must be written.
	writing chan struct{}
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
}

func newTask(queue *queue, record Record, since time.Time) *task {
	return &task{queue: queue, since: since, record: record, writing: make(chan struct{}, 1), done: make(chan struct{}), stuck: make(chan struct{})}
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

// lockWriting waits until the record is not being written. No task.mu may be held.
func (j *task) lockWriting() (unlock func()) {
	j.writing <- struct{}{}
	return func() { <-j.writing }
}

// unwritten returns the record to write; false where it is written.
func (j *task) unwritten() (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.record, !j.persisted
}

func (j *task) markWritten() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.persisted = true
}

// markDead marks the record dead, so that it is not written as revoking any more. collected says
// that no record is needed: the lease is waiting, or there is none.
func (j *task) markDead() (record Record, collected bool) {
	defer j.lockWriting()()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.persisted = true
	j.record.State, j.record.Ended = Dead, time.Now().UTC()
	return j.record, j.leases > 0 || j.record.NoLease
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
