// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"slices"
	"sort"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// kind is what the tasks of a queue do; each kind uses another of KSeF's limits.
type kind string

const (
	kindRevoke  kind = "revoke"
	kindRecover kind = "recover"
)

// queueKey identifies a queue. A failing context delays the tasks of its own queue only.
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

// queue has the tasks of one kind in one context, oldest first. The reconciler's lock guards its
// fields.
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

func (q *queue) add(task *task) {
	at := sort.Search(len(q.tasks), func(i int) bool { return q.tasks[i].since.After(task.since) })
	q.tasks = slices.Insert(q.tasks, at, task)
	q.wakeWorkers()
}

// wakeWorkers has the waiting workers ask for a task again.
func (q *queue) wakeWorkers() {
	for range queueWorkers {
		select {
		case q.wake <- struct{}{}:
		default:
			return
		}
	}
}

// next takes the oldest task that is due; those that have failed before come last, so that they do
// not block the others. Where none is due, it returns how long to wait.
func (q *queue) next(now time.Time) (*task, time.Duration) {
	if wait := q.retryAt.Sub(now); wait > 0 {
		return nil, wait
	}
	if q.failures > 0 && q.running > 0 {
		// One task finds out whether KSeF works again, and wakes the other workers.
		return nil, queueBackoff.Longest
	}
	best, shortest := -1, time.Duration(0)
	for i, candidate := range q.tasks {
		hasFailed := candidate.lastErr != nil
		if wait := candidate.due.Sub(now); wait > 0 {
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
	task := q.tasks[best]
	q.tasks = slices.Delete(q.tasks, best, best+1)
	q.running++
	return task, 0
}

func (q *queue) takeDue(now time.Time) []*task {
	var taken []*task
	q.tasks = slices.DeleteFunc(q.tasks, func(candidate *task) bool {
		if candidate.due.After(now) {
			return false
		}
		taken = append(taken, candidate)
		return true
	})
	q.running += len(taken)
	return taken
}

// remove removes a waiting task; false where it is running.
func (q *queue) remove(task *task) bool {
	at := slices.Index(q.tasks, task)
	if at < 0 {
		return false
	}
	q.tasks = slices.Delete(q.tasks, at, at+1)
	return true
}

func (q *queue) pending() int { return len(q.tasks) + q.running }

// position counts from 1 among all tasks of the queue.
func (q *queue) position(task *task) (position, pending int) {
	if at := slices.Index(q.tasks, task); at >= 0 {
		return q.running + at + 1, q.pending()
	}
	return 1, max(q.pending(), 1)
}

func (q *queue) failed(now time.Time, err error) {
	// Tasks that ran together fail together: one failure, one step.
	if q.retryAt.After(now) {
		return
	}
	q.lastErr = err
	q.retryAt = now.Add(queueBackoff.Jittered(q.failures))
	q.failures++
}

func (q *queue) succeeded() {
	q.failures, q.lastErr = 0, nil
	q.retryAt = time.Time{}
	q.wakeWorkers()
}

func (r *reconciler) queueFor(key queueKey) *queue {
	found := r.queues[key]
	if found == nil {
		found = &queue{key: key, wake: make(chan struct{}, queueWorkers)}
		r.queues[key] = found
	}
	return found
}

func (r *reconciler) start(task *task) {
	queue := task.queue
	queue.add(task)
	if queue.workers < queue.key.kind.workers() && r.ledger.ctx.Err() == nil {
		queue.workers++
		r.ledger.keepRunning(func() { r.serve(queue) })
	}
}

// serve does the tasks of a queue until it is empty or the ledger stops.
func (r *reconciler) serve(queue *queue) {
	ctx := r.ledger.ctx
	for {
		task, wait := r.take(queue)
		if task != nil {
			r.runTask(ctx, task)
			continue
		}
		if wait == 0 {
			return
		}
		background.SleepOrWake(ctx, wait, queue.wake)
	}
}

// take returns a task, or how long to wait for one. With neither, the worker must end.
func (r *reconciler) take(queue *queue) (*task, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ledger.ctx.Err() == nil {
		if task, wait := queue.next(time.Now()); task != nil || wait > 0 {
			return task, wait
		}
	}
	queue.workers--
	if queue.workers == 0 && queue.running == 0 && len(queue.tasks) == 0 {
		delete(r.queues, queue.key)
	}
	return nil, 0
}

func (r *reconciler) runTask(ctx context.Context, task *task) {
	if task.queue.key.kind == kindRecover {
		r.search(ctx, task)
		return
	}
	err := r.revokeOnce(ctx, task)
	r.completeOrRequeue(task, err == nil, err)
	if err != nil && ctx.Err() == nil {
		r.reportFailure(task, err)
	}
}

// completeOrRequeue completes or requeues a task after an attempt.
func (r *reconciler) completeOrRequeue(task *task, finished bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	queue := task.queue
	queue.running--
	stopped := r.ledger.ctx.Err() != nil
	switch {
	case finished && !stopped:
		queue.succeeded()
		if queue.key.kind == kindRecover {
			delete(r.lost, task.record.Nonce)
		} else {
			delete(r.revoking, task.record.ReferenceNumber)
		}
		close(task.done)
		return
	case stopped:
		queue.succeeded()
	default:
		task.postpone(err, time.Now())
	}
	queue.add(task)
}

func (r *reconciler) retry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, queue := range r.queues {
		queue.retryAt = time.Time{}
		for _, task := range queue.tasks {
			if task.lastErr != nil {
				task.due = time.Time{}
			}
		}
		queue.wakeWorkers()
	}
}

// task is a revocation, or the search for a token whose reply was lost, that the reconciler repeats
// until it succeeds.
type task struct {
	queue *queue
	// since orders the tasks of a queue.
	since time.Time
	// done is closed when the task is finished, stuck when an attempt has failed and its waiters
	// need not wait longer.
	done, stuck chan struct{}
	// writing is full while the task's record is written, or changed so that it must be written; it
	// guards persisted.
	writing   chan struct{}
	persisted bool

	// The reconciler's lock guards the rest.
	record   Record
	due      time.Time
	attempts int
	lastErr  error
	// leases counts the leases that wait for the task: one that still waits at the end needs no
	// record any more.
	leases int
	// operatorConfirmed: an operator says that KSeF does not know the token.
	operatorConfirmed bool
}

func newTask(queue *queue, record Record, since time.Time) *task {
	return &task{queue: queue, since: since, record: record, writing: make(chan struct{}, 1), done: make(chan struct{}), stuck: make(chan struct{})}
}

func (t *task) join() {
	t.leases++
	t.record.LeaseEnded = true
}

// lockWriting waits until the record is not being written. The reconciler must not be locked.
func (t *task) lockWriting() (unlock func()) {
	t.writing <- struct{}{}
	return func() { <-t.writing }
}

// The pauses after failures: of a whole queue (KSeF out of reach, no login), of a task that KSeF
// refuses, and of a task that KSeF fails at.
var (
	queueBackoff   = background.Backoff{Shortest: 5 * time.Second, Longest: 4 * time.Minute}
	refusedBackoff = background.Backoff{Shortest: time.Minute, Longest: time.Hour}
	serviceBackoff = background.Backoff{Shortest: time.Minute, Longest: 4 * time.Minute}
)

// postpone sets the next attempt after one that has not finished the task. A reply of KSeF, be it a
// refusal, shows that the queue works; another failure stops the whole queue for a while.
func (t *task) postpone(err error, now time.Time) {
	switch scope := scopeOf(err); {
	case err == nil:
		t.queue.succeeded()
		t.attempts++
		t.due = nextSearch(t.record.Created, now)
	case scope == ofTask && IsUnknownToken(err):
		t.queue.succeeded()
		t.fail(err, unknownDue(t.record.Unknown, now))
	case scope == ofTask:
		t.queue.succeeded()
		t.fail(err, now.Add(refusedBackoff.Exact(t.attempts)))
	case scope == ofService:
		t.queue.failed(now, err)
		t.fail(err, now.Add(serviceBackoff.Exact(t.attempts)))
	default:
		t.queue.failed(now, err)
		t.fail(err, now)
	}
}

func (t *task) fail(err error, due time.Time) {
	if t.operatorConfirmed && IsUnknownToken(err) {
		due = time.Time{} // the operator confirmed during this attempt
	}
	if t.lastErr == nil {
		close(t.stuck)
	}
	t.attempts++
	t.lastErr, t.due = err, due
}

// taskError is a failure of one task and not of its queue.
type taskError struct {
	err error
	// unknown: KSeF does not know the number of the token.
	unknown bool
	// unsettled: the configured signer cannot settle a request whose reply was lost.
	unsettled bool
}

func (e *taskError) Error() string { return e.err.Error() }
func (e *taskError) Unwrap() error { return e.err }
