// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// A token that KSeF does not know, as after a reset of its TEST environment, can neither be revoked
// nor be shown to be dead. It counts as dead when KSeF has said so for a day, by the token's number
// and by its list, to the subject that made the token and so would see it.
const (
	unknownLasts = 24 * time.Hour
	unknownCheck = 6 * time.Hour
	// unknownGap is the longest time between two requests; after a longer one the day begins anew.
	unknownGap = 2 * unknownCheck
	// operatorMaxWait is how long CloseUnknown waits for KSeF.
	operatorMaxWait = 10 * time.Second
)

// Unknown is since when KSeF has said that it does not know a token.
type Unknown struct {
	Since time.Time `json:"since,omitzero"`
	// Seen is when it last said so to the subject that made the token; zero where another asked.
	Seen time.Time `json:"seen,omitzero"`
}

// next returns u after KSeF has said so again, to the token's maker or not.
func (u Unknown) next(now time.Time, toMaker bool) Unknown {
	if u.Since.IsZero() || (toMaker && now.Sub(u.Seen) > unknownGap) {
		u.Since = now
	}
	u.Seen = time.Time{}
	if toMaker {
		u.Seen = now
	}
	return u
}

// decidedAt is when the token counts as dead; zero where only the operator can decide that.
func (u Unknown) decidedAt() time.Time {
	if u.Seen.IsZero() {
		return time.Time{}
	}
	return u.Since.Add(unknownLasts)
}

// IsUnknownToken says of a failed revocation that KSeF does not know the token.
func IsUnknownToken(err error) bool {
	failed, ok := errors.AsType[*taskError](err)
	return ok && failed.unknown
}

// isUnknown says that KSeF knows no token of that number. 401 and 403 do not say that.
func isUnknown(err error) bool {
	refused, ok := errors.AsType[*client.APIError](err)
	if !ok || refused.Endpoint != client.EndpointToken {
		return false
	}
	return refused.Status == http.StatusNotFound || refused.Status == http.StatusGone ||
		(refused.Status == http.StatusBadRequest && refused.Has(client.CodeInvalidValue))
}

// settleUnknown decides about a token whose number KSeF does not know. nil means that it counts as
// dead.
func (r *reconciler) settleUnknown(ctx context.Context, api Upstream, task *task, cause error) error {
	record := r.snapshot(task)
	token, err := searchAllPages(ctx, api, &record)
	switch {
	case err != nil:
		return err
	case token != nil && token.Status.Dead():
		return nil
	case token != nil:
		return errors.Join(&taskError{err: fmt.Errorf("KSeF lists the token %s as %s, and does not know its number: %s", record.ReferenceNumber, token.Status, cause.Error())},
			r.rememberUnknown(ctx, task, Unknown{}))
	}
	now := time.Now().UTC()
	unknown := record.Unknown.next(now, record.Subject != "" && record.Subject == api.Subject())
	decided := unknown.decidedAt()
	if r.isConfirmedByOperator(task) || (!decided.IsZero() && !decided.After(now)) {
		r.ledger.Logger.Warn("KSeF does not know a token, which counts as dead", "reference_number", record.ReferenceNumber, "unknown_since", unknown.Since)
		return nil
	}
	return errors.Join(&taskError{unknown: true, err: describeUnknown(&record, unknown)}, r.rememberUnknown(ctx, task, unknown))
}

// describeUnknown says what ends the wait.
func describeUnknown(record *Record, unknown Unknown) error {
	end := fmt.Sprintf("it counts as dead at %s if KSeF still does not know it then, or at once with", unknown.decidedAt().Format(time.RFC3339))
	switch {
	case record.Subject == "":
		end = "its record does not name its maker, so it never counts as dead by itself. If you are certain that KSeF has lost it"
	case unknown.Seen.IsZero():
		end = "the configured signer did not make it and may not see it. Configure the one that did, or, if you are certain that KSeF has lost it"
	}
	return fmt.Errorf("KSeF has not known the token %s since %s, as after a reset of its test environment; %s: vault delete <mount>/tokens/%s unknown_to_ksef=true",
		record.ReferenceNumber, unknown.Since.Format(time.RFC3339), end, record.ReferenceNumber)
}

// rememberUnknown records what KSeF has said, where that changes the record.
func (r *reconciler) rememberUnknown(ctx context.Context, task *task, unknown Unknown) error {
	unlock := task.lockWriting()
	r.mu.Lock()
	changed := task.record.Unknown != unknown
	if changed {
		task.record.Unknown, task.persisted = unknown, false
	}
	r.mu.Unlock()
	unlock()
	if !changed {
		return nil
	}
	return r.ledger.persistEnding(ctx, task)
}

// unknownDue is when the next attempt at a token is made that KSeF does not know.
func unknownDue(unknown Unknown, now time.Time) time.Time {
	due := now.Add(unknownCheck)
	if decided := unknown.decidedAt(); decided.After(now) && decided.Before(due) {
		return decided
	}
	return due
}

// searchAllPages returns the token with a record's mark from KSeF's list, or nil. It reads all
// pages, since other tokens may have the nonce in their texts.
func searchAllPages(ctx context.Context, api Upstream, record *Record) (found *client.Token, err error) {
	var query client.TokenQuery
	if !isImported(record.Nonce) {
		query.Description = record.Nonce
	}
	for tokens, err := range listPages(ctx, api, query) {
		if err != nil {
			return nil, fmt.Errorf("searching for the token with the mark %s: %w", record.Nonce, err)
		}
		for _, token := range tokens {
			_, nonce, marked := parseMarker(token.Description)
			if (marked && nonce == record.Nonce) || token.ReferenceNumber == record.ReferenceNumber {
				found = &token
			}
		}
		if found != nil {
			break
		}
	}
	return found, nil
}

// CloseUnknown ends the record of a token that KSeF does not know, at an operator's request. A
// *client.InputError says that KSeF knows the token, a *PendingError that the reconciler goes on.
func (l *Ledger) CloseUnknown(ctx context.Context, record *Record) error {
	if record.State == Dead {
		return nil
	}
	api, err := l.Upstream(ctx, record.Target, ratelimit.Wait{AtMost: operatorMaxWait})
	if err != nil {
		return err
	}
	token, err := api.Token(ctx, record.ReferenceNumber)
	if isUnknown(err) {
		token, err = searchAllPages(ctx, api, record)
	}
	if err != nil {
		return err
	}
	if token != nil {
		return &client.InputError{
			Field: "unknown_to_ksef", Fault: fmt.Sprintf("is not so: KSeF knows the token %s, which is %s", token.ReferenceNumber, token.Status),
			Remedy: "leave unknown_to_ksef out to revoke it",
		}
	}
	if record.State == Released {
		return l.store.remove(ctx, record.key())
	}
	task := l.reconciler.queueRevocation(record, "KSeF does not know it", false)
	l.reconciler.confirmByOperator(task)
	if l.wait(ctx, task, operatorMaxWait, nil) {
		return nil
	}
	if err := l.persistEnding(ctx, task); err != nil {
		return err
	}
	return l.reconciler.describe(task)
}

// UnknownTokens describes, in one sentence each, the tokens that KSeF does not know, and what ends
// the wait. It reads no storage.
func (l *Ledger) UnknownTokens() []string {
	l.reconciler.mu.Lock()
	defer l.reconciler.mu.Unlock()
	return sentences(l.reconciler.revoking, func(task *task) string {
		if task.record.Unknown.Since.IsZero() {
			return ""
		}
		return describeUnknown(&task.record, task.record.Unknown).Error()
	})
}

func (r *reconciler) confirmByOperator(task *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	task.operatorConfirmed, task.due = true, time.Time{}
	task.queue.wakeWorkers()
}

func (r *reconciler) isConfirmedByOperator(task *task) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return task.operatorConfirmed
}
