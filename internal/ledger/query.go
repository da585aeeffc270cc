// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Find returns the record of a token, or nil where this mount has none that can be read.
func (l *Ledger) Find(ctx context.Context, referenceNumber string) (*Record, error) {
	record, err := l.find(ctx, referenceNumber)
	if errors.Is(err, errUnreadableRecord) {
		return nil, nil
	}
	return record, err
}

// find fails where the only record of the token cannot be read.
func (l *Ledger) find(ctx context.Context, referenceNumber string) (*Record, error) {
	live, liveErr := l.findLive(ctx, referenceNumber)
	if liveErr != nil && !errors.Is(liveErr, errUnreadableRecord) {
		return nil, liveErr
	}
	// Read last: a record moves from live to ending.
	ending, err := l.store.get(ctx, endingKey(referenceNumber))
	switch {
	case ending != nil:
		return ending, nil
	case live != nil && errors.Is(err, errUnreadableRecord):
		return live, nil
	case err != nil:
		return nil, err
	}
	return live, liveErr
}

// findLive looks among the tokens without a lease first, whose key is known.
func (l *Ledger) findLive(ctx context.Context, referenceNumber string) (live *Record, unreadable error) {
	prefixes, err := l.store.livePrefixes(ctx)
	if err != nil {
		return nil, err
	}
	for _, prefix := range append([]string{unleasedPrefix}, prefixes...) {
		live, err := l.store.get(ctx, prefix+referenceNumber)
		if live != nil || (err != nil && !errors.Is(err, errUnreadableRecord)) {
			return live, err
		}
		if err != nil {
			unreadable = err
		}
	}
	return nil, unreadable
}

// Open counts what is not finished. A token whose revocation has begun counts as Revoking, whether
// or not its record says so already.
type Open struct {
	Issuing, Live, Revoking int
	// Static and Access count the live tokens without a lease, which are not in Live, by the kind
	// of their holder. Released tokens count nowhere.
	Static, Access int
	// Unreadable records may be of tokens too.
	Unreadable int
}

// Any says that there may be a token.
func (o Open) Any() bool { return o.Issuing+o.Live+o.Static+o.Access+o.Revoking+o.Unreadable > 0 }

// addLive counts a live record.
func (o *Open) addLive(record *Record) {
	switch {
	case record.State == Released:
	case record.Holder.Kind == HolderStatic:
		o.Static++
	case record.Holder.Kind == HolderAccess:
		o.Access++
	default:
		o.Live++
	}
}

// CountOpen counts the records of tokens that may be alive.
func (l *Ledger) CountOpen(ctx context.Context) (open Open, err error) {
	revoking := l.reconciler.endings()
	err = l.store.eachUnended(ctx, func(prefix, name string) error {
		_, ends := revoking[name]
		switch {
		case isIssuing(prefix):
			open.Issuing++
		case prefix != unleasedPrefix && !ends:
			open.Live++
		}
		return nil
	})
	if err != nil {
		return open, err
	}
	unleased, unreadable, err := l.unleased(ctx)
	if err != nil {
		return open, err
	}
	for _, record := range unleased {
		open.addLive(&record)
	}
	open.Unreadable, err = l.addRecordedEndings(ctx, revoking)
	open.Unreadable += len(unreadable)
	open.Revoking = len(revoking)
	return open, err
}

// endings returns the targets of the pending revocations by reference number.
func (r *reconciler) endings() map[string]Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	endings := make(map[string]Target, len(r.revoking))
	for referenceNumber, task := range r.revoking {
		endings[referenceNumber] = task.queue.key.target
	}
	return endings
}

// addRecordedEndings adds the revocations that are recorded and counts the records that cannot be
// read.
func (l *Ledger) addRecordedEndings(ctx context.Context, revoking map[string]Target) (unreadable int, err error) {
	err = l.store.eachName(ctx, []string{endingPrefix}, func(_, referenceNumber string) error {
		record, err := l.store.get(ctx, endingKey(referenceNumber))
		switch {
		case errors.Is(err, errUnreadableRecord):
			unreadable++
		case err != nil:
			return err
		case record != nil && record.State == Revoking:
			revoking[referenceNumber] = record.Target
		}
		return nil
	})
	return unreadable, err
}

// CountOpenAt is CountOpen of the tokens at one API. It reads all records; one that cannot be read
// may be of any API.
func (l *Ledger) CountOpenAt(ctx context.Context, api string) (Open, error) {
	var open Open
	err := l.store.eachRecord(ctx, func(prefix string, record *Record) error {
		switch {
		case record != nil && record.Target.API != api:
		case isIssuing(prefix):
			open.Issuing++
		case record == nil && (prefix == endingPrefix || prefix == unleasedPrefix):
			open.Unreadable++
		case record == nil:
			open.Live++
		case prefix != endingPrefix && !l.reconciler.isEnding(record.ReferenceNumber):
			open.addLive(record)
		case record.State != Dead:
			open.Revoking++
		}
		return nil
	})
	return open, err
}

// OpenTargets returns where there are records that are neither dead nor released. It reads them
// all; unreadable ones are left out.
func (l *Ledger) OpenTargets(ctx context.Context) (map[Target]struct{}, error) {
	open := make(map[Target]struct{})
	err := l.eachOpen(ctx, func(record *Record) { open[record.Target] = struct{}{} })
	return open, err
}

// eachOpen passes over dead, released and unreadable records.
func (l *Ledger) eachOpen(ctx context.Context, do func(*Record)) error {
	return l.store.eachRecord(ctx, func(_ string, record *Record) error {
		if record != nil && record.State != Dead && record.State != Released {
			do(record)
		}
		return nil
	})
}

// Pending describes the reconciler's work.
type Pending struct {
	// Revoking and Recovering count the tasks.
	Revoking, Recovering int
	// Oldest is the oldest pending revocation, or nil.
	Oldest *PendingError
	// OldestSince is when it was asked for.
	OldestSince time.Time
	// Alive says that the reconciler runs; Reviewed is when it last read the ledger, and ReviewErr
	// why that failed.
	Alive     bool
	Reviewed  time.Time
	ReviewErr error
}

// Pending describes the reconciler's tasks. It reads no storage.
func (l *Ledger) Pending() Pending {
	r := l.reconciler
	r.mu.Lock()
	pending := Pending{
		Revoking: len(r.revoking), Recovering: len(r.lost), Alive: r.loop.Running(),
		Reviewed: r.reviewed, ReviewErr: r.reviewErr,
	}
	var oldest *task
	for _, task := range r.revoking {
		if oldest == nil || task.since.Before(oldest.since) {
			oldest = task
		}
	}
	r.mu.Unlock()
	if oldest != nil {
		pending.Oldest, pending.OldestSince = r.describe(oldest), oldest.since
	}
	return pending
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

// sentences returns the sorted descriptions that are not empty.
func sentences[K comparable, V any](values map[K]V, describe func(V) string) []string {
	var all []string
	for _, value := range values {
		if sentence := describe(value); sentence != "" {
			all = append(all, sentence)
		}
	}
	slices.Sort(all)
	return all
}

// Reconstruct returns a record of a token with this mount's mark, nil for other tokens.
func (l *Ledger) Reconstruct(ctx context.Context, api string, token *client.Token) (*Record, error) {
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	mount, nonce, marked := parseMarker(token.Description)
	if !marked || mount != mountID {
		return nil, nil
	}
	return reconstruct(api, nonce, token), nil
}

func reconstruct(api, nonce string, token *client.Token) *Record {
	kind := holderKindOf(nonce)
	return &Record{
		Version: recordVersion, State: Live, Nonce: nonce, ReferenceNumber: token.ReferenceNumber,
		Holder: Holder{Kind: kind}, NoLease: kind != "",
		Target:      Target{API: api, Context: client.ContextIdentifier{Type: client.ContextType(token.Context.Type), Value: token.Context.Value}},
		Permissions: token.Permissions, Description: token.Description,
		Created: token.Created, Deadline: token.Created,
	}
}

// Subjects are those whose logins have made tokens that may be alive.
type Subjects map[client.ContextIdentifier][]string

// Subjects reads the records of an API's tokens that may be alive. "" is a subject that its record
// does not name. Unreadable records are left out.
func (l *Ledger) Subjects(ctx context.Context, api string) (Subjects, error) {
	subjects := make(Subjects)
	err := l.eachOpen(ctx, func(record *Record) {
		known := subjects[record.Target.Context]
		if record.Target.API == api && !slices.Contains(known, record.Subject) {
			subjects[record.Target.Context] = append(known, record.Subject)
		}
	})
	return subjects, err
}
