// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// deadRetention is how long the record of a dead token waits for its lease. Vault tries irrevocable
// leases once a day, which covers two tries; a lease that comes later still is answered after
// asking KSeF.
const deadRetention = 2 * 24 * time.Hour

// askedUntil is when nobody asks for a dead token any more. Its lease asks from its own end on,
// which has come where it has asked before. Whether a lease was ended by force, or there is a
// configuration, changes nothing: neither can be known, or keeps a lease from asking.
func (r *Record) askedUntil() time.Time {
	switch {
	case r.NoLease:
		return r.Ended
	case r.LeaseEnded:
		return r.Ended.Add(deadRetention)
	}
	return later(r.Ended, r.Deadline).Add(deadRetention)
}

// reviewPending takes up what the folders of pending records hold and nobody works on, and notes
// when live records may be due. It reads pending records only, not live ones.
func (p *reconciler) reviewPending(ctx context.Context) (err error) {
	defer background.Recover(p.ledger.Logger, "the reconciler", &err)
	err = errors.Join(p.reviewIssuing(ctx), p.reviewEnding(ctx), p.scheduleBuckets(ctx))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.review = reviewState{at: time.Now(), err: err}
	return err
}

func (p *reconciler) reviewIssuing(ctx context.Context) error {
	taken := func(nonce string) bool { return p.ledger.isInFlight(nonce) || p.isSearched(nonce) }
	return p.each(ctx, issuingPrefix, taken, func(record *Record) error {
		p.searchFor(record)
		return nil
	})
}

func (p *reconciler) reviewEnding(ctx context.Context) error {
	return p.each(ctx, endingPrefix, p.isEnding, func(record *Record) error {
		return p.resumeEnding(ctx, record)
	})
}

// each goes through a folder's records, but those that somebody works on. That is asked before
// reading: who has finished with a record has also written it. Unreadable records are skipped and
// reported; an error is a fault of storage.
func (p *reconciler) each(ctx context.Context, folder string, taken func(name string) bool, do func(*Record) error) error {
	names, err := p.ledger.store.names(ctx, folder)
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range names {
		if taken(name) {
			continue
		}
		record, err := p.ledger.store.get(ctx, folder+name)
		if err == nil && record != nil {
			err = do(record)
		}
		if err != nil && !errors.Is(err, errUnreadableRecord) {
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}

func (p *reconciler) resumeEnding(ctx context.Context, record *Record) error {
	switch {
	case record.State == Revoking:
		p.revoke(record, record.Cause, false)
		return nil
	case time.Now().After(record.askedUntil()):
		return p.ledger.store.remove(ctx, record.key())
	}
	return nil
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
