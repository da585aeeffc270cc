// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/budget"
)

const (
	// pumpPatience is how long the pump waits for a slot in KSeF's limits; a
	// block of the longest kind ends within it.
	pumpPatience = 24 * time.Hour
	// reviewEvery is how often the pump looks at the ledger's folders for what
	// nobody has told it about.
	reviewEvery = time.Hour
	// longestReviewRetry bounds the pause after a review that failed, which
	// begins with jobRetry.
	longestReviewRetry = 10 * time.Minute
	// jobRetry and longestJobRetry bound the pause of one job that KSeF has
	// answered and not granted.
	jobRetry        = time.Minute
	longestJobRetry = time.Hour
)

// pump finishes what was begun. One goroutine reviews the ledger; each lane
// with work has a few workers, which end with the work.
type pump struct {
	ledger *Ledger
	wake   chan struct{}

	mu       sync.Mutex
	lanes    map[laneKey]*lane
	revoking map[string]*job
	lost     map[string]*job
	agenda   agenda
	// overdue holds when a token was first seen to have outlived its lease.
	overdue map[string]time.Time
	// failedVisits counts, by bucket, the visits in a row that storage has failed.
	failedVisits map[string]int
	review       reviewState
}

// reviewState is what the last review found.
type reviewState struct {
	at  time.Time
	err error
}

func newPump(l *Ledger) *pump {
	return &pump{
		ledger: l, wake: make(chan struct{}, 1),
		lanes: make(map[laneKey]*lane), revoking: make(map[string]*job), lost: make(map[string]*job),
		agenda: newAgenda(), overdue: make(map[string]time.Time), failedVisits: make(map[string]int),
	}
}

func (p *pump) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run reviews the ledger at once, each hour, when a deadline comes and when
// poked. It ends with the ledger.
func (p *pump) run() {
	ctx := p.ledger.ctx
	next, failed := time.Now(), 0
	for {
		now := time.Now()
		if !next.After(now) {
			next = now.Add(reviewEvery)
			if err := p.reviewPending(ctx); err != nil && ctx.Err() == nil {
				p.ledger.Logger.Error("the ledger could not be read; it will be tried again", "error", err)
				next = now.Add(growing(failed, longestReviewRetry))
				failed++
			} else {
				failed = 0
			}
		}
		if err := p.visitDue(ctx, now); err != nil && ctx.Err() == nil {
			p.ledger.Logger.Error("overdue tokens could not be looked for; it will be tried again", "error", err)
		}
		if !p.rest(ctx, next) {
			return
		}
	}
}

func (p *pump) rest(ctx context.Context, next time.Time) bool {
	p.mu.Lock()
	if due := p.agenda.earliest(); !due.IsZero() && due.Before(next) {
		next = due
	}
	p.mu.Unlock()
	timer := time.NewTimer(max(time.Until(next), time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// revoke takes up a token's revocation, or joins the one under way.
func (p *pump) revoke(record *Record, cause string, byLease bool) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.overdue, record.ReferenceNumber)
	existing := p.revoking[record.ReferenceNumber]
	if existing != nil {
		existing.join(byLease)
		return existing
	}
	ending := *record
	persisted := record.State == Revoking
	if !persisted {
		ending.State, ending.Cause, ending.Ended = Revoking, cause, time.Now().UTC()
	}
	lane := p.lane(laneKey{record.Target, kindRevoke})
	job := newJob(lane, ending, ending.Ended)
	job.persisted = persisted
	job.join(byLease)
	p.revoking[record.ReferenceNumber] = job
	p.start(lane, job)
	return job
}

// recover takes up the search for a token whose reply was lost.
func (p *pump) recover(record *Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost[record.Nonce] != nil {
		return
	}
	lane := p.lane(laneKey{record.Target, kindRecover})
	job := newJob(lane, *record, record.Created)
	job.persisted, job.due = true, firstLookAt(record.Created)
	p.lost[record.Nonce] = job
	p.start(lane, job)
}

func (p *pump) isEnding(referenceNumber string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.revoking[referenceNumber] != nil
}

func (p *pump) isSearched(nonce string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost[nonce] != nil
}

func (p *pump) lane(key laneKey) *lane {
	found := p.lanes[key]
	if found == nil {
		found = newLane(key)
		p.lanes[key] = found
	}
	return found
}

// start queues the job and makes sure that somebody works on the lane.
func (p *pump) start(lane *lane, job *job) {
	lane.add(job)
	if lane.workers < lane.key.kind.workers() && p.ledger.ctx.Err() == nil {
		lane.workers++
		p.ledger.keepRunning(func() { p.serve(lane) })
	}
}

// serve works on a lane until it is empty or the ledger stops.
func (p *pump) serve(lane *lane) {
	ctx := p.ledger.ctx
	for {
		job, wait := p.take(lane)
		if job != nil {
			p.attempt(ctx, lane, job)
			continue
		}
		if wait == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-lane.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// take returns a job, or how long to wait for one. With neither the worker is
// struck from the lane.
func (p *pump) take(lane *lane) (*job, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger.ctx.Err() == nil {
		if job, wait := lane.next(time.Now()); job != nil || wait > 0 {
			return job, wait
		}
	}
	lane.workers--
	if lane.workers == 0 && lane.running == 0 && len(lane.queue) == 0 {
		delete(p.lanes, lane.key)
	}
	return nil, 0
}

// takeDue takes the jobs of a lane that are due besides the one that is being done.
func (p *pump) takeDue(lane *lane) []*job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return lane.takeDue(time.Now())
}

// attempt does a job once and decides what becomes of it.
func (p *pump) attempt(ctx context.Context, lane *lane, job *job) {
	if lane.key.kind == kindRecover {
		p.search(ctx, lane, job)
		return
	}
	err := p.work(ctx, lane.key, job)
	p.decide(ctx, lane, job, true, err)
	if err != nil && ctx.Err() == nil {
		p.report(job, err)
	}
}

// decide puts a job that was done once where it belongs.
func (p *pump) decide(ctx context.Context, lane *lane, job *job, finished bool, err error) {
	now := time.Now()
	if ctx.Err() != nil {
		p.requeue(lane, job)
		return
	}
	if err == nil && finished {
		p.complete(lane, job)
		return
	}
	if err == nil {
		p.requeue(lane, job)
		return
	}
	attempts, _ := job.failure()
	switch scopeOf(err) {
	case ofJob:
		due := now.Add(growing(attempts, longestJobRetry))
		if unknown := new(*unknownError); errors.As(err, unknown) {
			due = unknownDue(job.snapshot().Unknown, now)
		}
		job.fail(err, due)
		p.requeue(lane, job)
	case ofService:
		p.laneFailed(lane, job, err, now.Add(growing(attempts, longestBackoff)))
	default:
		p.laneFailed(lane, job, err, now)
	}
}

func (p *pump) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, lane := range p.lanes {
		lane.retryAt = time.Time{}
		for _, job := range lane.queue {
			job.retry()
		}
		lane.nudge()
	}
}

// growing doubles a job's own pause with each of its attempts, to a limit.
func growing(attempts int, most time.Duration) time.Duration {
	return min(most, jobRetry<<min(attempts, 10))
}

func (p *pump) work(ctx context.Context, key laneKey, job *job) (err error) {
	defer p.ledger.contain(&err)
	api, err := p.ledger.Open(ctx, key.target, budget.Wait{AtMost: pumpPatience})
	if err != nil {
		return err
	}
	return p.kill(ctx, api, job)
}

func (p *pump) complete(lane *lane, job *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lane.running--
	lane.succeeded()
	record := job.snapshot()
	if lane.key.kind == kindRecover {
		delete(p.lost, record.Nonce)
	} else {
		delete(p.revoking, record.ReferenceNumber)
	}
	close(job.done)
}

// requeue puts a job back after KSeF has answered: the lane works.
func (p *pump) requeue(lane *lane, job *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lane.running--
	lane.succeeded()
	lane.add(job)
}

// laneFailed stops the whole lane for a while, and this job until it is due.
func (p *pump) laneFailed(lane *lane, job *job, err error, due time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lane.failed(time.Now(), err)
	job.fail(err, due)
	lane.running--
	lane.add(job)
}

func (p *pump) report(job *job, err error) {
	record := job.snapshot()
	attempts, _ := job.failure()
	p.ledger.Logger.Warn("a token's end is not reached yet; the engine goes on", "state", record.State,
		"reference_number", record.ReferenceNumber, "nonce", record.Nonce, "context", record.Target.Context.String(),
		"attempts", attempts, "error", err)
	if record.State == Revoking {
		p.ledger.OnEvent(Event{Kind: EventRevokeFail, Record: record, Err: err})
	}
}

// jobError is a failure that concerns one job and not its lane.
type jobError struct{ err error }

func (e *jobError) Error() string { return e.err.Error() }
func (e *jobError) Unwrap() error { return e.err }

// forecast tells when the job will be tried about.
func (p *pump) forecast(job *job) (position, pending int, next time.Time, err error) {
	p.mu.Lock()
	position, pending = job.lane.position(job)
	retryAt, laneErr := job.lane.retryAt, job.lane.lastErr
	target := job.lane.key.target
	p.mu.Unlock()
	next = p.ledger.NextSlot(target, client.EndpointRevokeToken, position-1)
	due, _ := job.standing()
	for _, later := range []time.Time{retryAt, due} {
		if later.After(next) {
			next = later
		}
	}
	_, err = job.failure()
	if err == nil {
		err = laneErr
	}
	return position, pending, next, err
}

// describe says to a waiting caller where his revocation stands.
func (p *pump) describe(job *job) *PendingError {
	record := job.snapshot()
	position, pending, next, err := p.forecast(job)
	return &PendingError{
		ReferenceNumber: record.ReferenceNumber, Context: record.Target.Context,
		Position: position, Pending: pending, Next: next, Role: record.Role, Err: err, FormerAPI: formerAPI(&record),
	}
}
