// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"time"
)

// deadRetention is how long the record of a dead token waits for its lease,
// counted from the later of the token's and the lease's end. Vault tries
// irrevocable leases once a day; a lease that comes later still is answered
// after asking KSeF.
const deadRetention = 7 * 24 * time.Hour

// reviewPending takes up what the folders of pending records hold and nobody
// works on, and notes when live records may be due. It reads pending records
// only, not live ones.
func (p *pump) reviewPending(ctx context.Context) (err error) {
	defer contain(&err)
	err = errors.Join(p.reviewIssuing(ctx), p.reviewEnding(ctx), p.noteBuckets(ctx))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.review = reviewState{at: time.Now(), err: err}
	return err
}

func (p *pump) reviewIssuing(ctx context.Context) error {
	nonces, err := p.ledger.store.names(ctx, issuingPrefix)
	if err != nil {
		return err
	}
	for _, nonce := range nonces {
		// Looked at before reading: a request that has landed has also written.
		if p.ledger.inFlight(nonce) {
			continue
		}
		record, err := p.ledger.store.get(ctx, issuingKey(nonce))
		if err != nil {
			return err
		}
		if record != nil {
			p.recover(record)
		}
	}
	return nil
}

func (p *pump) reviewEnding(ctx context.Context) error {
	referenceNumbers, err := p.ledger.store.names(ctx, endingPrefix)
	if err != nil {
		return err
	}
	for _, referenceNumber := range referenceNumbers {
		if p.isEnding(referenceNumber) {
			continue
		}
		record, err := p.ledger.store.get(ctx, endingKey(referenceNumber))
		if err != nil {
			return err
		}
		if err := p.takeUpEnding(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

func (p *pump) takeUpEnding(ctx context.Context, record *Record) error {
	switch {
	case record == nil:
		return nil
	case record.State == Revoking:
		p.revoke(record, record.Cause, false)
		return nil
	case time.Since(later(record.Ended, record.Deadline)) > deadRetention:
		return p.ledger.store.remove(ctx, record.key())
	}
	return nil
}

func (p *pump) noteBuckets(ctx context.Context) error {
	buckets, err := p.ledger.store.buckets(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, bucket := range buckets {
		if _, noted := p.agenda[bucket]; noted {
			continue
		}
		start, err := bucketStart(bucket)
		if err != nil {
			return err
		}
		p.agenda.note(bucket, start.Add(deadlineGrace))
	}
	return nil
}

// visitDue looks into the folders in which a deadline has passed.
func (p *pump) visitDue(ctx context.Context, now time.Time) (err error) {
	defer contain(&err)
	p.mu.Lock()
	buckets := p.agenda.due(now)
	p.mu.Unlock()
	for _, bucket := range buckets {
		if err := p.visit(ctx, bucket, now); err != nil {
			return err
		}
	}
	return nil
}

// visit revokes what has outlived its lease and notes when to come again.
func (p *pump) visit(ctx context.Context, bucket string, now time.Time) error {
	p.mu.Lock()
	// A deadline that is noted during the visit is one that this visit may miss.
	delete(p.agenda, bucket)
	p.mu.Unlock()
	folder := livePrefix + bucket + "/"
	referenceNumbers, err := p.ledger.store.names(ctx, folder)
	for _, referenceNumber := range referenceNumbers {
		if err != nil {
			break
		}
		if p.isEnding(referenceNumber) {
			continue
		}
		var record *Record
		if record, err = p.ledger.store.get(ctx, folder+referenceNumber); err == nil && record != nil {
			p.judge(record, now)
		}
	}
	if err != nil {
		p.mu.Lock()
		p.agenda.note(bucket, now.Add(reviewRetry))
		p.mu.Unlock()
	}
	return err
}

func (p *pump) judge(record *Record, now time.Time) {
	if overdue := record.Deadline.Add(deadlineGrace); overdue.After(now) {
		p.expect(record)
		return
	}
	p.revoke(record, "its lease has ended and Vault has not revoked it", false)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
