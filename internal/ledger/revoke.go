// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// Lease is what a Vault lease stores of its token: enough to find the record, and to revoke the
// token where the record is gone.
type Lease struct {
	Nonce           string `json:"nonce"`
	ReferenceNumber string `json:"reference_number"`
	Target
	Role string `json:"role"`
}

// Lease returns what the token's lease must store.
func (r *Record) Lease() Lease {
	return Lease{Nonce: r.Nonce, ReferenceNumber: r.ReferenceNumber, Target: r.Target, Role: r.Role}
}

var errInvalidLease = errors.New("the lease does not say which token it holds")

// revokeMaxWait is how long a caller waits for KSeF to confirm a revocation. Then the reconciler
// goes on.
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
	// Holder is what a token without a lease belonged to; zero for others.
	Holder Holder
	// Err is the last failure; nil where only KSeF's limits delay it.
	Err error
	// FormerAPI is the API of a token without a record, which a former mount at this path has
	// issued; "" of others.
	FormerAPI string
}

func (e *PendingError) Error() string {
	text := fmt.Sprintf("KSeF has not yet confirmed that the token %s is revoked: it is number %d of %d pending in %s, next attempt about %s. "+
		"The engine goes on by itself until KSeF confirms", e.ReferenceNumber, e.Position, e.Pending, e.Context, e.Next.UTC().Format(time.RFC3339))
	if e.Holder == (Holder{}) {
		text += fmt.Sprintf("; the lease then ends with Vault's next attempt. After a failed vault lease revoke -sync "+
			"that is the lease's own end: to end it sooner, give that command again with its id: <mount>/%s/ and one of those that this lists: vault list sys/leases/lookup/<mount>/%s",
			leasePath(e.Role), leasePath(e.Role))
	}
	if e.Err != nil {
		text += fmt.Sprintf(" (last error: %v)", e.Err)
		if e.FormerAPI != "" {
			text += formerRemedy(e.FormerAPI, e.Context)
		}
	}
	return text
}

func (r *reconciler) describe(task *task) *PendingError {
	r.mu.Lock()
	record, err := task.record, cmp.Or(task.lastErr, task.queue.lastErr)
	position, pending := task.queue.position(task)
	r.mu.Unlock()
	described := &PendingError{
		ReferenceNumber: record.ReferenceNumber, Context: record.Target.Context, Position: position, Pending: pending,
		Next: r.nextTry(task, position-1), Role: record.Role, Holder: record.Holder, Err: err,
	}
	if record.Description == "" && !record.Unleased() { // each stored record of a lease has one
		described.FormerAPI = record.Target.API
	}
	return described
}

// nextTry is about when a task can be tried with so many others before it.
func (r *reconciler) nextTry(task *task, ahead int) time.Time {
	r.mu.Lock()
	due := later(task.queue.retryAt, task.due)
	r.mu.Unlock()
	return later(due, r.ledger.NextPermit(task.queue.key.target, client.EndpointRevokeToken, ahead))
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

func leasePath(role string) string {
	if role == "" {
		return "tokens"
	}
	return "creds/" + role
}

func (e *PendingError) Unwrap() error { return e.Err }

// RevokeLease revokes a lease's token. nil means that KSeF has confirmed it and that the record is
// gone. A *PendingError means that the revocation is recorded and the reconciler goes on; the lease
// must stay.
func (l *Ledger) RevokeLease(ctx context.Context, lease Lease) error {
	// Join before reading the record: a revocation that ends in between would be repeated.
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

// RevokeToken revokes a token whose lease, if there is one, stays. The lease ends later without
// another request to KSeF.
func (l *Ledger) RevokeToken(ctx context.Context, record *Record) error {
	if record.State == Dead {
		return nil
	}
	return l.revoke(ctx, record, "it was deleted by hand", false)
}

// revoke has the reconciler revoke the token and waits for a few seconds.
func (l *Ledger) revoke(ctx context.Context, record *Record, cause string, byLease bool) error {
	task := l.reconciler.queueRevocation(record, cause, byLease)
	return l.awaitRevocation(ctx, task, byLease, l.reconciler.describe(task).Next)
}

// awaitRevocation waits for a task that the caller has joined; next is about when it is tried.
func (l *Ledger) awaitRevocation(ctx context.Context, task *task, byLease bool, next time.Time) error {
	if byLease {
		defer l.reconciler.leave(task)
	}
	// Fail fast: a waiting caller would block one of Vault's 200 expiration workers.
	maxWait := revokeMaxWait
	if time.Until(next) > revokeMaxWait {
		maxWait = 0
	}
	if l.wait(ctx, task, maxWait, task.stuck) {
		return nil
	}
	if err := l.persistEnding(ctx, task); err != nil {
		return err
	}
	pending := l.reconciler.describe(task)
	l.OnEvent(Event{Kind: EventRevokeWait, Record: l.reconciler.snapshot(task), Err: pending})
	return pending
}

// wait waits for a task until stuck is closed, ctx or the ledger ends, or maxWait is over. done
// says that the task is finished.
func (l *Ledger) wait(ctx context.Context, task *task, maxWait time.Duration, stuck <-chan struct{}) (done bool) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-task.done:
		return true
	case <-stuck:
	case <-timer.C:
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	return false
}

// persistEnding records that the token must be revoked, once per revocation.
func (l *Ledger) persistEnding(ctx context.Context, task *task) error {
	defer task.lockWriting()()
	if task.persisted {
		return nil
	}
	record := l.reconciler.snapshot(task)
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	if err := l.store.put(ctx, &record); err != nil {
		return fmt.Errorf("the revocation of %s goes on, but could not be recorded: %w", record.ReferenceNumber, err)
	}
	task.persisted = true
	live := liveKey(record.Nonce, record.ReferenceNumber)
	if err := l.store.remove(ctx, live); err != nil {
		l.Logger.Warn("a live record is left beside its revocation", "reference_number", record.ReferenceNumber, "error", err)
	}
	return nil
}

// abandon has the reconciler revoke a token that was never returned.
func (l *Ledger) abandon(ctx context.Context, record *Record, cause string) error {
	record.NoLease = true
	return l.beginRevocation(ctx, record, cause)
}

// beginRevocation has the reconciler revoke a token, and records that.
func (l *Ledger) beginRevocation(ctx context.Context, record *Record, cause string) error {
	return l.persistEnding(ctx, l.reconciler.queueRevocation(record, cause, false))
}

// recordOf returns a lease's record. A missing record proves nothing about the token, so one is
// made from the lease's data.
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

// Renew records a later end of a lease. A closer end is not recorded: where the response is lost,
// Vault keeps the former end, and the token must live until then. extend returns the new end, given
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

func (r *reconciler) revokeOnce(ctx context.Context, task *task) (err error) {
	defer background.Recover(r.ledger.Logger, "the reconciler", &err)
	api, err := r.ledger.Upstream(ctx, task.queue.key.target, ratelimit.Wait{AtMost: reconcilerMaxWait})
	if err != nil {
		return err
	}
	return r.attemptRevocation(ctx, api, task)
}

// attemptRevocation revokes the task's token. nil means that KSeF has confirmed it, by a 204 or by
// the token's status, and that it is recorded.
func (r *reconciler) attemptRevocation(ctx context.Context, api Upstream, task *task) error {
	record := r.snapshot(task)
	err := r.revokeUpstream(ctx, api, &record)
	if mayAskItself(err) {
		err = r.revokeItself(ctx, &record, err)
	}
	switch {
	case IsUnknownToken(err):
		err = r.settleUnknown(ctx, api, task, err)
	case err != nil && scopeOf(err) == ofTask:
		err = errors.Join(err, r.rememberUnknown(ctx, task, Unknown{}))
	}
	if err != nil {
		return err
	}
	r.markDead(ctx, task)
	return nil
}

// revokeUpstream has KSeF revoke a token. nil means that KSeF has confirmed it.
func (r *reconciler) revokeUpstream(ctx context.Context, api Upstream, record *Record) error {
	err := api.RevokeToken(ctx, record.ReferenceNumber)
	if err == nil || scopeOf(err) != ofTask && !client.MayHaveActed(err, client.EndpointRevokeToken) {
		return err
	}
	return r.confirm(ctx, api, record, err)
}

// confirm decides by the token's status after a DELETE that was refused or whose reply was lost:
// KSeF has no reply that says "already revoked".
func (r *reconciler) confirm(ctx context.Context, api Upstream, record *Record, cause error) error {
	token, err := api.Token(ctx, record.ReferenceNumber)
	switch {
	case err == nil && token.Status.Dead():
		return nil
	case err == nil && scopeOf(cause) == ofTask:
		return &taskError{err: fmt.Errorf("the token %s is still %s: %w", record.ReferenceNumber, token.Status, cause)}
	case err == nil:
		return cause
	case isUnknown(err):
		return &taskError{unknown: true, err: fmt.Errorf("KSeF does not know the token %s: %w; and, asked for its status: %w", record.ReferenceNumber, cause, err)}
	case scopeOf(err) == ofTask && scopeOf(cause) == ofTask:
		return &taskError{err: fmt.Errorf("KSeF neither revokes the token %s nor returns its status: %w; and, asked for its status: %w", record.ReferenceNumber, cause, err)}
	case scopeOf(err) == ofTask:
		return cause
	}
	// The reply to the DELETE decides nothing, since the token may be dead. So cause is only
	// quoted.
	return fmt.Errorf("%s, and the token's status could not be asked for: %w", cause.Error(), err)
}

// markDead records that a token is dead, so that it is not recorded as revoking any more. While its
// lease waits, no record is needed; otherwise one stays, so that the lease can end without asking
// KSeF again. A failure leaves a record that leads to the same end later.
func (r *reconciler) markDead(ctx context.Context, task *task) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	unlock := task.lockWriting()
	r.mu.Lock()
	task.record.State, task.record.Ended = Dead, time.Now().UTC()
	record, collected := task.record, task.leases > 0 || task.record.NoLease
	r.mu.Unlock()
	task.persisted = true
	unlock()
	live := liveKey(record.Nonce, record.ReferenceNumber)
	var err error
	if collected {
		// The text last: without it a token that is recorded may not be able to revoke itself.
		err = r.ledger.store.remove(ctx, append([]string{live, endingKey(record.ReferenceNumber)}, record.textKeys()...)...)
	} else if err = r.ledger.store.put(ctx, &record); err == nil {
		err = r.ledger.store.remove(ctx, live)
	}
	if err != nil {
		r.ledger.Logger.Warn("a dead token's record could not be brought up to date", "reference_number", record.ReferenceNumber, "error", err)
	}
	r.ledger.OnEvent(Event{Kind: EventRevoke, Record: record})
}

// scope is what an error concerns.
type scope int

const (
	// ofQueue: the login, the limits, the configuration or the connection, which fail for the next
	// task too.
	ofQueue scope = iota
	// ofService: a fault in KSeF, of this token or of all.
	ofService
	// ofTask: KSeF's reply about this token, or a panic.
	ofTask
)

// scopeOf decides by the endpoint and KSeF's reply. 401, 429 and a 403 for the address concern the
// session; another 403 may concern this token alone, as when another subject made it.
func scopeOf(err error) scope {
	if errors.As(err, new(*taskError)) || errors.As(err, new(*background.PanicError)) {
		return ofTask
	}
	refused, ok := errors.AsType[*client.APIError](err)
	if !ok {
		return ofQueue
	}
	switch refused.Endpoint {
	case client.EndpointRevokeToken, client.EndpointToken, client.EndpointQueryTokens:
	default:
		return ofQueue
	}
	switch {
	case !client.IsRefusal(err):
		return ofService
	case client.IsFinal(err):
		return ofTask
	}
	return ofQueue
}
