// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"maps"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// The reconciler revokes a token an hour after its lease's end: Vault's own six attempts take about
// ten minutes, and clocks differ. It must be seen overdue at both ends of overdueConfirm.
const (
	overdueNotice  = 50 * time.Minute
	overdueConfirm = 10 * time.Minute
	deadlineGrace  = overdueNotice + overdueConfirm
)

// schedule has when each bucket of live records must be checked next: when the first deadline in
// it, and its notice, have passed.
type schedule map[string]time.Time

// add has the bucket checked no later than the given time.
func (s schedule) add(bucket string, check time.Time) (earlier bool) {
	known, scheduled := s[bucket]
	if scheduled && !check.Before(known) {
		return false
	}
	s[bucket] = check
	return true
}

func (s schedule) due(now time.Time) []string {
	var buckets []string
	for bucket, check := range s {
		if !check.After(now) {
			buckets = append(buckets, bucket)
		}
	}
	return buckets
}

// earliest returns the zero time for an empty schedule.
func (s schedule) earliest() time.Time {
	var check time.Time
	for _, candidate := range s {
		check = background.Earlier(check, candidate)
	}
	return check
}

func (r *reconciler) forgetOverdue(referenceNumber string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.overdue, referenceNumber)
}

// scheduleCheck has a live record checked after its deadline. One without a lease has no deadline.
func (r *reconciler) scheduleCheck(record *Record) {
	if record.Unleased() {
		return
	}
	r.mu.Lock()
	delete(r.overdue, record.ReferenceNumber)
	earlier := r.schedule.add(record.Nonce[:bucketDigits], record.Deadline.Add(overdueNotice))
	r.mu.Unlock()
	if earlier {
		r.loop.Wake()
	}
}

func (r *reconciler) scheduleBuckets(ctx context.Context) error {
	buckets, err := r.ledger.store.buckets(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	scheduled := maps.Clone(r.schedule)
	r.mu.Unlock()
	for _, bucket := range buckets {
		if _, known := scheduled[bucket]; known {
			continue
		}
		check, err := r.ledger.store.nextCheck(ctx, bucket)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.schedule.add(bucket, check)
		r.mu.Unlock()
	}
	return r.ledger.store.pruneNextChecks(ctx, buckets)
}

func (r *reconciler) checkDueBuckets(ctx context.Context, now time.Time) (err error) {
	defer background.Recover(r.ledger.Logger, "the reconciler", &err)
	r.mu.Lock()
	buckets := r.schedule.due(now)
	r.mu.Unlock()
	failures := make([]error, 0, len(buckets))
	for _, bucket := range buckets {
		failures = append(failures, r.checkBucket(ctx, bucket, now))
	}
	return errors.Join(failures...)
}

// checkBucket revokes overdue tokens and schedules the next check, in memory and, where live
// records remain, in storage: so the next start need not read them.
func (r *reconciler) checkBucket(ctx context.Context, bucket string, now time.Time) error {
	r.mu.Lock()
	// A deadline that is scheduled during this check may be missed by it.
	delete(r.schedule, bucket)
	r.mu.Unlock()
	err := r.each(ctx, livePrefix+bucket+"/", r.isEnding, func(record *Record) { r.checkOverdue(record, now) })
	r.mu.Lock()
	if err != nil {
		r.schedule.add(bucket, now.Add(reviewBackoff.Exact(r.failedChecks[bucket])))
		r.failedChecks[bucket]++
	} else {
		delete(r.failedChecks, bucket)
	}
	next, stays := r.schedule[bucket]
	r.mu.Unlock()
	switch {
	case err != nil:
		return err
	case stays:
		return r.ledger.store.putNextCheck(ctx, bucket, next)
	}
	return r.ledger.store.remove(ctx, nextCheckPrefix+bucket)
}

// checkOverdue revokes a token that has been overdue for overdueConfirm by the monotonic clock, so
// that a jump of the wall clock revokes nothing.
func (r *reconciler) checkOverdue(record *Record, now time.Time) {
	if record.Deadline.Add(overdueNotice).After(now) {
		r.scheduleCheck(record)
		return
	}
	r.mu.Lock()
	seen, before := r.overdue[record.ReferenceNumber]
	if !before {
		seen = now
		r.overdue[record.ReferenceNumber] = now
	}
	confirmed := now.Sub(seen) >= overdueConfirm
	if confirmed {
		delete(r.overdue, record.ReferenceNumber)
	} else {
		r.schedule.add(record.Nonce[:bucketDigits], seen.Add(overdueConfirm))
	}
	r.mu.Unlock()
	if confirmed {
		r.queueRevocation(record, "its lease has ended and Vault has not revoked it", false)
	}
}
