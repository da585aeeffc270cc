// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// After its lease's end a token may live for an hour before the reconciler revokes it by itself:
// Vault's own six attempts take about ten minutes, and clocks differ. It is noticed some time
// before that and must still be overdue then.
const (
	overdueNotice  = 50 * time.Minute
	overdueConfirm = 10 * time.Minute
	deadlineGrace  = overdueNotice + overdueConfirm
)

// schedule says when each folder of live records must be looked at next: not before the first
// deadline in it, and its grace, have passed.
type schedule map[string]time.Time

func newSchedule() schedule { return make(schedule) }

// add makes sure that the bucket is visited no later than the time given.
func (a schedule) add(bucket string, visit time.Time) (earlier bool) {
	known, noted := a[bucket]
	if noted && !visit.Before(known) {
		return false
	}
	a[bucket] = visit
	return true
}

func (a schedule) due(now time.Time) []string {
	var buckets []string
	for bucket, visit := range a {
		if !visit.After(now) {
			buckets = append(buckets, bucket)
		}
	}
	return buckets
}

// earliest returns the zero time where nothing is noted.
func (a schedule) earliest() time.Time {
	var visit time.Time
	for _, candidate := range a {
		if visit.IsZero() || candidate.Before(visit) {
			visit = candidate
		}
	}
	return visit
}

func (p *reconciler) forgetOverdue(referenceNumber string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.overdue, referenceNumber)
}

// scheduleCheck notes a live record's deadline.
func (p *reconciler) scheduleCheck(record *Record) {
	p.mu.Lock()
	delete(p.overdue, record.ReferenceNumber)
	earlier := p.schedule.add(record.Nonce[:bucketDigits], record.Deadline.Add(overdueNotice))
	p.mu.Unlock()
	if earlier {
		p.loop.Wake()
	}
}

func (p *reconciler) scheduleBuckets(ctx context.Context) error {
	buckets, err := p.ledger.store.buckets(ctx)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if p.isScheduled(bucket) {
			continue
		}
		visit, err := p.ledger.store.nextCheck(ctx, bucket)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.schedule.add(bucket, visit)
		p.mu.Unlock()
	}
	return p.ledger.store.pruneNextChecks(ctx, buckets)
}

func (p *reconciler) isScheduled(bucket string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, noted := p.schedule[bucket]
	return noted
}

// checkDueBuckets looks into the folders in which a deadline has passed.
func (p *reconciler) checkDueBuckets(ctx context.Context, now time.Time) (err error) {
	defer background.Recover(p.ledger.Logger, "the reconciler", &err)
	p.mu.Lock()
	buckets := p.schedule.due(now)
	p.mu.Unlock()
	failures := make([]error, 0, len(buckets))
	for _, bucket := range buckets {
		failures = append(failures, p.checkBucket(ctx, bucket, now))
	}
	return errors.Join(failures...)
}

// checkBucket revokes what has outlived its lease and notes when to come again, in memory and,
// where live records stay, in storage: the next start need not read them then.
func (p *reconciler) checkBucket(ctx context.Context, bucket string, now time.Time) error {
	p.mu.Lock()
	// A deadline that is noted during the visit is one that this visit may miss.
	delete(p.schedule, bucket)
	p.mu.Unlock()
	err := p.each(ctx, livePrefix+bucket+"/", p.isEnding, func(record *Record) error {
		p.checkOverdue(record, now)
		return nil
	})
	p.mu.Lock()
	if err != nil {
		p.schedule.add(bucket, now.Add(reviewBackoff.Exact(p.failedChecks[bucket])))
		p.failedChecks[bucket]++
	} else {
		delete(p.failedChecks, bucket)
	}
	next, stays := p.schedule[bucket]
	p.mu.Unlock()
	switch {
	case err != nil:
		return err
	case stays:
		return p.ledger.store.putNextCheck(ctx, bucket, next)
	}
	return p.ledger.store.deleteNextCheck(ctx, bucket)
}

// checkOverdue has a token revoked that has been seen overdue for a while: by this process' own
// clock, so that a wall clock that jumps kills no token.
func (p *reconciler) checkOverdue(record *Record, now time.Time) {
	if noticed := record.Deadline.Add(overdueNotice); noticed.After(now) {
		p.scheduleCheck(record)
		return
	}
	p.mu.Lock()
	seen, before := p.overdue[record.ReferenceNumber]
	if !before {
		seen = now
		p.overdue[record.ReferenceNumber] = now
	}
	confirmed := now.Sub(seen) >= overdueConfirm
	if confirmed {
		delete(p.overdue, record.ReferenceNumber)
	} else {
		p.schedule.add(record.Nonce[:bucketDigits], seen.Add(overdueConfirm))
	}
	p.mu.Unlock()
	if confirmed {
		p.revoke(record, "its lease has ended and Vault has not revoked it", false)
	}
}
