// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import "time"

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
