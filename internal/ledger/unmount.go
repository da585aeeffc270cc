// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

// RevokeAll begins to revoke every token of this mount that is not dead, and does not wait. It
// writes nothing: without RecordRevocations the records are still live after a restart.
func (l *Ledger) RevokeAll(ctx context.Context, cause string) error {
	prefixes, err := l.store.livePrefixes(ctx)
	if err != nil {
		return err
	}
	failures := make([]error, 0, len(prefixes)+1)
	for _, prefix := range prefixes {
		err := l.reconciler.each(ctx, prefix, l.reconciler.isEnding, func(record *Record) {
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

// soonest is when a task can be tried if the running ones have their permits already; describe
// assumes that they have not.
func (r *reconciler) soonest(task *task) time.Time {
	r.mu.Lock()
	ahead := slices.Index(task.queue.tasks, task)
	r.mu.Unlock()
	if ahead < 0 {
		return time.Now()
	}
	return r.nextTry(task, ahead)
}

func (r *reconciler) unconfirmed() Unconfirmed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Unconfirmed{ReferenceNumbers: slices.Collect(maps.Keys(r.revoking)), Nonces: slices.Collect(maps.Keys(r.lost))}
}

// RevocationsEnd is about when the last pending revocation can have been sent; zero without any.
func (l *Ledger) RevocationsEnd() time.Time {
	var queues []queue
	l.reconciler.mu.Lock()
	for key, queue := range l.reconciler.queues {
		if key.kind == kindRevoke && queue.pending() > 0 {
			queues = append(queues, *queue)
		}
	}
	l.reconciler.mu.Unlock()
	var end time.Time
	for _, queue := range queues {
		last := l.NextPermit(queue.key.target, client.EndpointRevokeToken, queue.pending()-1)
		end = later(end, later(last, queue.retryAt))
	}
	return end
}
