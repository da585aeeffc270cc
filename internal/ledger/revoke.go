// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

// Lease is what a Vault lease knows of its token: enough to find the record, and to revoke the
// token where the record is gone.
type Lease struct {
	Nonce           string
	ReferenceNumber string
	Target          Target
	Role            string
}

var errInvalidLease = errors.New("the lease does not say which token it holds")

// revokeMaxWait is how long a revocation waits for KSeF before its caller is told that it goes on
// without him.
const revokeMaxWait = 5 * time.Second

// PendingError says that KSeF has not confirmed a revocation yet, and that the ledger goes on until
// it does.
type PendingError struct {
	ReferenceNumber string
	Context         client.ContextIdentifier
	// Position counts from 1 among the context's pending revocations.
	Position, Pending int
	// Next is about when this one will be tried.
	Next time.Time
	// Role is that of the token; "" for one made by tokens.
	Role string
	// Err is the last failure; nil where only KSeF's limits hold it up.
	Err error
	// FormerAPI is set where the token is known from its lease alone: it was issued by a mount that
	// was at this path before, at this API.
	FormerAPI string
}

func (e *PendingError) Error() string {
	text := fmt.Sprintf("KSeF has not yet confirmed that the token %s is revoked: it is number %d of %d pending in %s, next attempt about %s. "+
		"The engine goes on by itself until KSeF confirms; the lease then ends with Vault's next attempt. After a failed vault lease revoke -sync "+
		"that is the lease's own end: to end it sooner, give that command again with its id: <mount>/%s/ and one of those that this lists: vault list sys/leases/lookup/<mount>/%s",
		e.ReferenceNumber, e.Position, e.Pending, e.Context, e.Next.UTC().Format(time.RFC3339), leasePath(e.Role), leasePath(e.Role))
	if e.Err != nil {
		text += fmt.Sprintf(" (last error: %v)", e.Err)
	}
	if e.Err != nil && e.FormerAPI != "" {
		text += formerRemedy(e.FormerAPI, e.Context)
	}
	return text
}

// leasePath is where Vault keeps the leases of a role's tokens.
func leasePath(role string) string {
	if role == "" {
		return "tokens"
	}
	return "creds/" + role
}

func (e *PendingError) Unwrap() error { return e.Err }

// RevokeLease sees to it that a lease's token dies. nil means that KSeF has confirmed it and that
// the record is gone. A *PendingError means that the record says so and the reconciler goes on; the
// lease must stay.
func (l *Ledger) RevokeLease(ctx context.Context, lease Lease) error {
	// Joined before its record is read: a revocation that ends in between would be repeated.
	if task := l.reconciler.joinRevocation(lease.ReferenceNumber); task != nil {
		return l.awaitRevocation(ctx, task, true, l.reconciler.soonest(task))
	}
	record, err := l.recordOf(ctx, lease)
	if err != nil {
		return err
	}
	if record.State == Dead {
		return l.store.remove(ctx, liveKey(record.Nonce, record.ReferenceNumber), record.key())
	}
	return l.revoke(ctx, record, "the lease has ended", true)
}

// RevokeToken revokes a token of this mount by hand. Its lease, if there is one, ends later without
// another request to KSeF.
func (l *Ledger) RevokeToken(ctx context.Context, record *Record) error {
	if record.State == Dead {
		return nil
	}
	return l.revoke(ctx, record, "it was deleted by hand", false)
}

// revoke hands the record to the reconciler and waits a little for the outcome.
func (l *Ledger) revoke(ctx context.Context, record *Record, cause string, byLease bool) error {
	task := l.reconciler.revoke(record, cause, byLease)
	_, _, next, _ := l.reconciler.forecast(task)
	return l.awaitRevocation(ctx, task, byLease, next)
}

// awaitRevocation waits for a task that its caller has joined and that is tried next about then.
func (l *Ledger) awaitRevocation(ctx context.Context, task *task, byLease bool, next time.Time) error {
	defer task.leave(byLease)
	// Vault brings up to 200 revocations at once: who cannot be served soon is told so at once and
	// does not keep one of its workers.
	maxWait := revokeMaxWait
	if time.Until(next) > revokeMaxWait {
		maxWait = 0
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-task.done:
		return nil
	case <-task.stuck:
	case <-timer.C:
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	if err := l.persistEnding(ctx, task); err != nil {
		return err
	}
	pending := l.reconciler.describe(task)
	l.OnEvent(Event{Kind: EventRevokeWait, Record: task.snapshot(), Err: pending})
	return pending
}

// persistEnding writes down that the token must die, once per revocation.
func (l *Ledger) persistEnding(ctx context.Context, task *task) error {
	record, claimed := task.claimPersist()
	if !claimed {
		return nil
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	err := l.store.put(ctx, &record)
	task.endPersist(err == nil)
	if err != nil {
		return fmt.Errorf("the revocation of %s goes on, but could not be recorded: %w", record.ReferenceNumber, err)
	}
	live := liveKey(record.Nonce, record.ReferenceNumber)
	if err := l.store.remove(ctx, live); err != nil {
		l.Logger.Warn("a live record is left beside its revocation", "reference_number", record.ReferenceNumber, "error", err)
	}
	return nil
}

// abandon has the reconciler revoke a token that no lease will ever hold.
func (l *Ledger) abandon(ctx context.Context, record *Record, cause string) error {
	record.NoLease = true
	return l.beginRevocation(ctx, record, cause)
}

// beginRevocation has the reconciler revoke a token, and records that.
func (l *Ledger) beginRevocation(ctx context.Context, record *Record, cause string) error {
	task := l.reconciler.revoke(record, cause, false)
	defer task.leave(false)
	return l.persistEnding(ctx, task)
}

// recordOf finds a lease's record. A record that is missing proves nothing about the token, so one
// is made from what the lease knows.
func (l *Ledger) recordOf(ctx context.Context, lease Lease) (*Record, error) {
	if len(lease.Nonce) != nonceLength || lease.ReferenceNumber == "" {
		return nil, errInvalidLease
	}
	record, err := l.store.locate(ctx, lease.Nonce, lease.ReferenceNumber)
	switch {
	case errors.Is(err, errUnreadableRecord):
		l.Logger.Error("a record cannot be read; the lease's own data is used", "reference_number", lease.ReferenceNumber, "error", err)
	case err != nil || record != nil:
		return record, err
	}
	now := time.Now().UTC()
	return &Record{
		Version: recordVersion, State: Live, Nonce: lease.Nonce, ReferenceNumber: lease.ReferenceNumber,
		Target: lease.Target, Role: lease.Role, Created: now, Deadline: now,
	}, nil
}

// ErrRevoked says that a token has been revoked, so that its lease cannot be renewed.
var ErrRevoked = errors.New("the token has been revoked in KSeF, or is about to be")

// Renew moves a lease's end further away. A closer end is not recorded: where the answer is lost
// Vault keeps the former one, and until then the token must live. extend returns the new end, given
// when KSeF ends the token by itself; zero where that is not known.
func (l *Ledger) Renew(ctx context.Context, lease Lease, extend func(validUntil time.Time) (time.Time, error)) error {
	record, err := l.recordOf(ctx, lease)
	if err != nil {
		return err
	}
	if record.State != Live || l.reconciler.isEnding(lease.ReferenceNumber) {
		return fmt.Errorf("%s: %w", lease.ReferenceNumber, ErrRevoked)
	}
	deadline, err := extend(record.ValidUntil)
	if err != nil || !deadline.After(record.Deadline) {
		return err
	}
	record.Deadline = deadline.UTC()
	if err := l.store.put(ctx, record); err != nil {
		return err
	}
	l.reconciler.scheduleCheck(record)
	return nil
}
