// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

const (
	// reconcilerMaxWait is how long the reconciler waits for a permit; KSeF's longest block ends
	// within it.
	reconcilerMaxWait = 24 * time.Hour
	// reviewEvery is how often the reconciler reads the ledger for records that it does not know
	// of.
	reviewEvery = time.Hour
)

// reviewBackoff is the pause after a failed reading of the ledger.
var reviewBackoff = background.Backoff{Shortest: time.Minute, Longest: 10 * time.Minute}

// reconciler finishes what was begun. A loop reads the ledger; each queue has a few workers, which
// end when it is empty.
type reconciler struct {
	ledger *Ledger
	loop   *background.Loop
	// nextReview and failedReviews belong to the loop.
	nextReview    time.Time
	failedReviews int

	mu       sync.Mutex
	queues   map[queueKey]*queue
	revoking map[string]*task
	lost     map[string]*task
	schedule schedule
	// overdue maps a reference number to when the token was first seen overdue.
	overdue map[string]time.Time
	// failedChecks counts, by bucket, the failed checks in a row.
	failedChecks map[string]int
	// reviewed and reviewErr are the time and the outcome of the last review.
	reviewed  time.Time
	reviewErr error
}

func newReconciler(l *Ledger) *reconciler {
	r := &reconciler{
		ledger: l,
		queues: make(map[queueKey]*queue), revoking: make(map[string]*task), lost: make(map[string]*task),
		schedule: make(schedule), overdue: make(map[string]time.Time), failedChecks: make(map[string]int),
	}
	r.loop = background.NewLoop(background.LoopOptions{
		Name: "the reconciler", Logger: l.Logger, Interval: reviewEvery, RunOnce: r.runOnce,
	})
	return r
}

// runOnce reviews the pending records once an hour, and checks the buckets that are due.
func (r *reconciler) runOnce(ctx context.Context) (next time.Time) {
	now := time.Now()
	if !r.nextReview.After(now) {
		r.nextReview = now.Add(reviewEvery)
		if err := r.reviewPending(ctx); err != nil && ctx.Err() == nil {
			r.ledger.Logger.Error("the ledger could not be read and will be read again", "error", err)
			r.nextReview = now.Add(reviewBackoff.Exact(r.failedReviews))
			r.failedReviews++
		} else {
			r.failedReviews = 0
		}
	}
	if err := r.checkDueBuckets(ctx, now); err != nil && ctx.Err() == nil {
		r.ledger.Logger.Error("overdue tokens could not be checked and will be checked again", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return background.Earlier(r.schedule.earliest(), r.nextReview)
}

// queueRevocation begins a token's revocation, or joins the one in progress.
func (r *reconciler) queueRevocation(record *Record, cause string, byLease bool) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.overdue, record.ReferenceNumber)
	task := r.revoking[record.ReferenceNumber]
	if task == nil {
		ending, persisted := *record, record.State == Revoking
		if !persisted {
			ending.State, ending.Cause, ending.Ended = Revoking, cause, time.Now().UTC()
		}
		task = newTask(r.queueFor(queueKey{record.Target, kindRevoke}), ending, ending.Ended)
		task.persisted = persisted
		r.revoking[record.ReferenceNumber] = task
		r.start(task)
	}
	if byLease {
		task.join()
	}
	return task
}

// joinRevocation joins the pending revocation of a lease's token, or returns nil.
func (r *reconciler) joinRevocation(referenceNumber string) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.revoking[referenceNumber]
	if found != nil {
		found.join()
	}
	return found
}

func (r *reconciler) leave(task *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	task.leases--
}

// searchFor begins the search for a token whose reply was lost.
func (r *reconciler) searchFor(record *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost[record.Nonce] != nil {
		return
	}
	task := newTask(r.queueFor(queueKey{record.Target, kindRecover}), *record, record.Created)
	task.persisted, task.due = true, firstSearch(record.Created)
	r.lost[record.Nonce] = task
	r.start(task)
}

func (r *reconciler) snapshot(task *task) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return task.record
}

func (r *reconciler) isEnding(referenceNumber string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revoking[referenceNumber] != nil
}

func (r *reconciler) isSearched(nonce string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost[nonce] != nil
}

func (r *reconciler) reportFailure(task *task, err error) {
	r.mu.Lock()
	record, attempts := task.record, task.attempts
	r.mu.Unlock()
	r.ledger.Logger.Warn("an attempt at a token failed and will be repeated", "state", record.State,
		"reference_number", record.ReferenceNumber, "nonce", record.Nonce, "context", record.Target.Context.String(),
		"attempts", attempts, "error", err)
	if record.State == Revoking {
		r.ledger.OnEvent(Event{Kind: EventRevokeFail, Record: record, Err: err})
	}
}

// deadRetention is how long the record of a dead token waits for its lease. Vault tries irrevocable
// leases once a day, which covers two tries; a lease that comes later still is answered after
// asking KSeF.
const deadRetention = 2 * 24 * time.Hour

// keptUntil is when the record of a dead token may be removed: at once without a lease, two days
// after the token's end where its lease has asked for that already, and otherwise two days after
// the later of the token's and the lease's end.
func (r *Record) keptUntil() time.Time {
	switch {
	case r.NoLease:
		return r.Ended
	case r.LeaseEnded:
		return r.Ended.Add(deadRetention)
	}
	return later(r.Ended, r.Deadline).Add(deadRetention)
}

// reviewPending begins the tasks of pending records that have none, and schedules the checks of
// live ones. It does not read live records.
func (r *reconciler) reviewPending(ctx context.Context) (err error) {
	defer background.Recover(r.ledger.Logger, "the reconciler", &err)
	err = errors.Join(r.reviewIssuing(ctx), r.reviewEnding(ctx), r.scheduleBuckets(ctx), r.reviewTexts(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reviewed, r.reviewErr = time.Now(), err
	return err
}

func (r *reconciler) reviewIssuing(ctx context.Context) error {
	taken := func(nonce string) bool { return r.ledger.isInFlight(nonce) || r.isSearched(nonce) }
	return r.eachIntent(ctx, taken, r.searchFor)
}

// eachIntent calls do with the intents that are not taken, as each does.
func (r *reconciler) eachIntent(ctx context.Context, taken func(nonce string) bool, do func(*Record)) error {
	failures := make([]error, 0, len(issuingPrefixes))
	for _, prefix := range issuingPrefixes {
		failures = append(failures, r.each(ctx, prefix, taken, do))
	}
	return errors.Join(failures...)
}

func (r *reconciler) reviewEnding(ctx context.Context) error {
	var failures []error
	err := r.each(ctx, endingPrefix, r.isEnding, func(record *Record) {
		switch {
		case record.State == Revoking:
			r.queueRevocation(record, record.Cause, false)
		case time.Now().After(record.keptUntil()):
			failures = append(failures, r.ledger.store.remove(ctx, record.key()))
		}
	})
	return errors.Join(append(failures, err)...)
}

// each calls do with the records under a prefix, without those in progress. These are left out
// before reading, since a task writes its record before it ends. Unreadable records are skipped and
// reported; an error is a fault of storage.
func (r *reconciler) each(ctx context.Context, prefix string, taken func(name string) bool, do func(*Record)) error {
	names, err := r.ledger.store.names(ctx, prefix)
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range names {
		if taken(name) {
			continue
		}
		record, err := r.ledger.store.get(ctx, prefix+name)
		if record != nil {
			do(record)
		} else if !errors.Is(err, errUnreadableRecord) {
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}

// RevokeAll begins to revoke every token of this mount that is not dead or released, and does not
// wait. It writes nothing: without RecordRevocations the records are still live after a restart.
func (l *Ledger) RevokeAll(ctx context.Context, cause string) error {
	prefixes, err := l.store.livePrefixes(ctx)
	if err != nil {
		return err
	}
	failures := make([]error, 0, len(prefixes)+2)
	// Those without a lease come last: the others can make a disable fail.
	for _, prefix := range append(prefixes, unleasedPrefix) {
		err := l.reconciler.each(ctx, prefix, l.reconciler.isEnding, func(record *Record) {
			if record.State == Released {
				return
			}
			record.NoLease = record.Unleased()
			l.reconciler.queueRevocation(record, cause, false)
		})
		failures = append(failures, err)
	}
	failures = append(failures, l.reconciler.reviewPending(ctx))
	return errors.Join(failures...)
}

// RecordRevocations records the pending revocations, so that the next start goes on with them.
// Those that are left when ctx ends are lost with the process.
func (l *Ledger) RecordRevocations(ctx context.Context) error {
	l.reconciler.mu.Lock()
	tasks := slices.Collect(maps.Values(l.reconciler.revoking))
	l.reconciler.mu.Unlock()
	var failures []error
	for _, task := range tasks {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failures, err)...)
		}
		if err := l.persistEnding(ctx, task); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// Unconfirmed are the tokens whose end KSeF has not confirmed.
type Unconfirmed struct {
	ReferenceNumbers []string
	// Imported tokens have no mark of this mount in KSeF: only their numbers lead to them.
	Imported []string
	// Nonces are those of requests whose reply was lost: KSeF may have made a token.
	Nonces []string
}

// awaitPoll is how often AwaitRevocations checks what is left besides the task that it waits for.
const awaitPoll = 200 * time.Millisecond

// AwaitRevocations searches for the tokens of lost replies, waits for the pending revocations until
// ctx ends, and returns what is left.
func (l *Ledger) AwaitRevocations(ctx context.Context) Unconfirmed {
	if _, err := l.SettleLost(ctx); err != nil {
		l.Logger.Warn("the tokens of lost replies could not be searched for at once", "error", err)
	}
	for {
		task := l.reconciler.anyDue(ctx)
		if task == nil || ctx.Err() != nil {
			return l.reconciler.unconfirmed()
		}
		background.SleepOrWake(ctx, awaitPoll, task.done)
	}
}

// anyDue returns a revocation, or a search that begins before ctx ends; nil for none.
func (r *reconciler) anyDue(ctx context.Context) *task {
	end, _ := ctx.Deadline()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, task := range r.revoking {
		return task
	}
	for _, task := range r.lost {
		if task.due.Before(end) {
			return task
		}
	}
	return nil
}

func (r *reconciler) unconfirmed() Unconfirmed {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := Unconfirmed{Nonces: slices.Collect(maps.Keys(r.lost))}
	for referenceNumber, task := range r.revoking {
		if isImported(task.record.Nonce) {
			left.Imported = append(left.Imported, referenceNumber)
		} else {
			left.ReferenceNumbers = append(left.ReferenceNumbers, referenceNumber)
		}
	}
	return left
}
