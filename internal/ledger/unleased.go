// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// ImportRequest is a token that others have made, and that a static role takes over.
type ImportRequest struct {
	Holder          Holder
	Target          Target
	ReferenceNumber string
	Permissions     []string
	// Description is KSeF's.
	Description string
	// Subject identifies whose login made the token.
	Subject string
	Created time.Time
	// ValidUntil is when KSeF ends the token by itself; zero where KSeF has not said.
	ValidUntil time.Time
	Token      client.Secret
}

// Import records a token that others have made. From then on it is its holder's as any other. To
// import a token again for the same holder stores its text again. Errors: a *client.InputError
// where another holder or a lease has the token, or where it is being revoked; ErrPaused,
// ErrUnmounting, those of Upstream, or a fault of storage.
func (l *Ledger) Import(ctx context.Context, request ImportRequest) error {
	if request.Holder.Kind != HolderStatic || request.Holder.check() != nil {
		return fmt.Errorf("importing %s: %s %w", request.ReferenceNumber, request.Holder, errInvalidHolder)
	}
	running, err := l.beginIssue(ctx)
	if err != nil {
		return err
	}
	defer l.endIssue(running)
	if _, err := l.Upstream(ctx, request.Target, ratelimit.Wait{AtMost: statusMaxWait}); err != nil {
		return err
	}
	if err := l.importing.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for another import: %w", err)
	}
	defer l.importing.Release(1)
	nonce, err := l.importNonce(ctx, request)
	if err != nil {
		return err
	}
	// Until the record is written, this alone keeps the text.
	l.inFlight.Store(nonce, nil)
	defer l.inFlight.Delete(nonce)
	record := &Record{
		State: Live, Nonce: nonce, ReferenceNumber: request.ReferenceNumber, Target: request.Target, Holder: request.Holder,
		Subject: request.Subject, Permissions: request.Permissions, Description: request.Description, Created: request.Created.UTC(),
	}
	record.updateValidity(request.ValidUntil)
	if err := l.store.putText(ctx, request.ReferenceNumber, request.Token); err != nil {
		return err
	}
	if err := l.store.put(ctx, record); err != nil {
		return err
	}
	l.OnEvent(Event{Kind: EventImport, Record: *record})
	return nil
}

// importNonce returns the nonce of an imported token: that of its record, where the holder has the
// token already or where a static role has released it. It refuses a token of others.
func (l *Ledger) importNonce(ctx context.Context, request ImportRequest) (string, error) {
	record, err := l.find(ctx, request.ReferenceNumber)
	if err != nil {
		return "", err
	}
	refused := &client.InputError{Field: "token", Fault: request.ReferenceNumber + " is ", Remedy: "import another token"}
	switch {
	case record == nil:
		return newImportedNonce(), nil
	case record.State == Dead:
		refused.Fault += "dead"
	case record.State != Live && record.State != Released:
		refused.Fault += "being revoked by this mount"
	case !record.Unleased():
		refused.Fault += "a token of this mount, which has a lease or had one"
	case record.State == Released && record.Holder.Kind == HolderStatic, record.Holder == request.Holder && record.Target == request.Target:
		return record.Nonce, nil
	default:
		refused.Fault += fmt.Sprintf("that of %s in %s", record.Holder, record.Target)
	}
	return "", refused
}

// Unleased returns the records of the tokens without a lease that are Live or Released. Those that
// cannot be read are left out.
func (l *Ledger) Unleased(ctx context.Context) ([]Record, error) {
	records, _, err := l.unleased(ctx)
	return records, err
}

// unleased also returns the keys of the records that cannot be read.
func (l *Ledger) unleased(ctx context.Context) (records []Record, unreadable []string, err error) {
	all, unreadable, err := l.store.unleased(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, record := range all {
		if !l.reconciler.isEnding(record.ReferenceNumber) {
			records = append(records, record)
		}
	}
	return records, unreadable, nil
}

// Secret returns the token itself of a record without a lease; "" where it is not stored.
func (l *Ledger) Secret(ctx context.Context, referenceNumber string) (client.Secret, error) {
	return l.store.text(ctx, referenceNumber)
}

// statusMaxWait is how long Status waits for KSeF's limits.
const statusMaxWait = 5 * time.Second

// Status asks KSeF for a token's status: as the mount, and where KSeF does not show it the token,
// by a login with the token itself. IsUnknownToken says of the error that KSeF does not know the
// token. A token that this mount is revoking is Revoking, and KSeF is not asked.
func (l *Ledger) Status(ctx context.Context, target Target, referenceNumber string) (client.TokenStatus, error) {
	if l.reconciler.isEnding(referenceNumber) {
		return client.StatusRevoking, nil
	}
	wait := ratelimit.Wait{AtMost: statusMaxWait}
	api, err := l.Upstream(ctx, target, wait)
	if err != nil {
		return "", err
	}
	token, err := api.Token(ctx, referenceNumber)
	if mayAskItself(err) {
		token, err = l.askItself(ctx, target, referenceNumber, wait, err)
	}
	switch {
	case isUnknown(err):
		return "", &taskError{unknown: true, err: err}
	case err != nil:
		return "", err
	}
	return token.Status, nil
}

// RevokeUnleased revokes a token without a lease. It records that before KSeF is asked. nil means
// that KSeF has confirmed it; also for a token without a record, since a record stays until then. A
// *PendingError means that the reconciler goes on. A released token is refused.
func (l *Ledger) RevokeUnleased(ctx context.Context, referenceNumber, cause string) error {
	record, err := l.find(ctx, referenceNumber)
	switch {
	case err != nil:
		return err
	case record == nil || record.State == Dead:
		return nil
	case !record.Unleased():
		return fmt.Errorf("%s: %w", referenceNumber, errLeased)
	case record.State == Released:
		return fmt.Errorf("%s: %w", referenceNumber, errReleased)
	}
	if record.State == Live {
		if err := l.recordEnding(ctx, record, cause); err != nil {
			return err
		}
	}
	return l.revoke(ctx, record, cause, false)
}

// recordEnding records that a live token without a lease must be revoked.
func (l *Ledger) recordEnding(ctx context.Context, record *Record, cause string) error {
	live := record.key()
	record.State, record.NoLease, record.Cause, record.Ended = Revoking, true, cause, time.Now().UTC()
	if err := l.store.put(ctx, record); err != nil {
		return err
	}
	if err := l.store.remove(ctx, live); err != nil {
		l.Logger.Warn("a live record is left beside its revocation", "reference_number", record.ReferenceNumber, "error", err)
	}
	return nil
}

var (
	errLeased   = errors.New("the token has a lease, or had one")
	errReleased = errors.New("the token has been handed back and is not the engine's any more")
	errNotLive  = errors.New("the token is not live in this mount's ledger")
)

// Release hands a live token back to the operator: the engine deletes its text, never touches the
// token again, and keeps its record as Released until tidy learns that the token is dead. To
// release a token again does no harm.
func (l *Ledger) Release(ctx context.Context, referenceNumber string) error {
	record, err := l.find(ctx, referenceNumber)
	switch {
	case err != nil:
		return err
	case record == nil || !record.Unleased() || (record.State != Live && record.State != Released):
		return fmt.Errorf("%s: %w", referenceNumber, errNotLive)
	}
	released := record.State == Released
	record.State, record.Ended = Released, time.Now().UTC()
	// First: what is recorded as live may be revoked.
	if !released {
		if err := l.store.put(ctx, record); err != nil {
			return err
		}
	}
	return l.store.remove(ctx, textKey(referenceNumber))
}
