// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/breaker"
	"vault-plugin-secrets-ksef/internal/quota"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// IssueMaxWait is how long a request for a token waits for KSeF's limits before it is refused;
// Vault gives the whole request 90 seconds.
const IssueMaxWait = 10 * time.Second

// IssueRequest asks for a token.
type IssueRequest struct {
	Target Target
	Role   string
	// Holder is what a token without a lease is for; zero for a leased one. With a holder TTL and
	// Until mean nothing, and Role stays empty.
	Holder Holder
	// EntityID and DisplayName are those of Vault for who asks; "" where Vault has none.
	EntityID, DisplayName string
	// Limits are those of the role; none where Role is "".
	Limits      quota.Limits
	Permissions []string
	// Description is the user's part; the marker is added.
	Description string
	// TTL is the lease's duration.
	TTL time.Duration
	// Until is the moment that the lease must not go beyond; zero for none.
	Until time.Time
	// ActivationTimeout bounds the wait for Active; 0 does not wait.
	ActivationTimeout time.Duration
}

// Issued is a token with its record. Nothing else in the ledger has the token itself.
type Issued struct {
	Record Record
	Token  client.Secret
	// Status is Active, or Pending where the wait was too short.
	Status client.TokenStatus
	// NotActive is why the wait ended before Active; nil otherwise, and without a wait.
	NotActive error
	// Until is the moment that the lease must not go beyond, for the request's sake or the token's;
	// zero for none.
	Until time.Time
	// updated says that the record differs from the stored one.
	updated bool
}

// LostReplyError says that KSeF may have made a token whose reply was lost. The reconciler searches
// for it and revokes it.
type LostReplyError struct {
	Nonce string
	Err   error
}

func (e *LostReplyError) Error() string {
	what := "the reply to the request for a token was lost"
	if errors.As(e.Err, new(*client.APIError)) {
		what = "KSeF failed, and did not say whether it has made a token"
	}
	return fmt.Sprintf("%s, so the token was not returned; if KSeF made one, it carries the mark %s and will be found and revoked. "+
		"Ask again for another: %v", what, e.Nonce, e.Err)
}

func (e *LostReplyError) Unwrap() error { return e.Err }

// ErrFailed is a token that KSeF has made and then not activated.
var ErrFailed = errors.New("KSeF reports that the token's activation has failed; ask again for another")

// Issue has KSeF make a token. prepare makes the request once it is counted: a change of the
// configuration may be waiting for it, so it must not wait for the configuration. The intent is
// recorded before KSeF is asked. Errors: ErrPaused, ErrUnmounting, those of prepare, of Upstream
// and of the login, a *client.InputError where a limit of the role is reached, a
// *ratelimit.ExhaustedError where KSeF's limits leave no room soon, a *client.APIError where KSeF
// refuses, a *LostReplyError where it is not known whether KSeF made a token, a
// *breaker.OutageError where replies to such requests are lost at the moment, an *UnclaimedError
// where KSeF has made a token in vain (ErrFailed among the causes), or a fault of storage.
func (l *Ledger) Issue(ctx context.Context, prepare func() (IssueRequest, error)) (issued *Issued, err error) {
	running, err := l.beginIssue(ctx)
	if err != nil {
		return nil, err
	}
	defer l.endIssue(running)
	waitCtx, sendCtx := running.waitCtx, running.sendCtx
	request, err := prepare()
	if err == nil {
		err = request.Holder.check()
	}
	if err != nil {
		return nil, err
	}
	nonce := request.newNonce(time.Now())
	place, err := l.admit(ctx, nonce, &request)
	if err != nil {
		return nil, err
	}
	defer func() { place.Release(err == nil || IsSpent(err)) }()
	if next := l.NextPermit(request.Target, client.EndpointGenerateToken, 0); time.Until(next) > IssueMaxWait {
		return nil, &ratelimit.ExhaustedError{Endpoint: client.EndpointGenerateToken, Next: next, Position: 1}
	}
	attempt, err := l.breaker(request.Target.API).Admit()
	if err != nil {
		return nil, err
	}
	defer l.endAttempt(request.Target.API, attempt, breaker.NotSent, nil)
	api, err := l.Upstream(ctx, request.Target, ratelimit.Wait{AtMost: IssueMaxWait})
	if err != nil {
		return nil, err
	}
	if err := api.Ready(waitCtx); err != nil {
		return nil, endedBy(waitCtx, err)
	}
	record, err := l.writeIntent(ctx, nonce, request, api.Subject())
	if err != nil {
		return nil, err
	}
	defer l.inFlight.Delete(record.Nonce)

	attempt.Send()
	token, err := api.GenerateToken(sendCtx, client.TokenRequest{Permissions: record.Permissions, Description: record.Description})
	l.endAttempt(request.Target.API, attempt, outcomeOf(ctx, err), err)
	if err != nil {
		return nil, endedBy(sendCtx, l.notIssued(ctx, record, err))
	}
	record.updateValidity(token.ValidUntil)
	if err := l.recordLive(ctx, record, token); err != nil {
		l.OnEvent(Event{Kind: EventIssueFail, Record: *record, Err: err})
		return nil, &UnclaimedError{err}
	}
	issued = &Issued{Record: *record, Token: token.Token, Status: client.StatusPending}
	if request.ActivationTimeout > 0 {
		seen, waited := l.activations.Await(waitCtx, record.Target, record.ReferenceNumber, request.ActivationTimeout)
		issued.Status, issued.NotActive = seen.Status, waited
		issued.updated = issued.Record.updateValidity(seen.ValidUntil)
	}
	issued.Until = background.Earlier(request.Until, issued.Record.ValidUntil)
	if err := l.settleIssue(waitCtx, issued); err != nil {
		l.OnEvent(Event{Kind: EventIssueFail, Record: *record, Err: err})
		return nil, &UnclaimedError{err}
	}
	l.OnEvent(Event{Kind: EventIssue, Record: *record})
	return issued, nil
}

// writeIntent writes the record that leads back to the token, whatever happens next.
func (l *Ledger) writeIntent(ctx context.Context, nonce string, request IssueRequest, subject string) (*Record, error) {
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.recordIssued(ctx, &request); err != nil {
		return nil, fmt.Errorf("no token was asked for: %w", err)
	}
	now := time.Now()
	record := &Record{
		State: Issuing, Nonce: nonce, Target: request.Target, Subject: subject,
		Role: request.Role, Holder: request.Holder, EntityID: request.EntityID, DisplayName: request.DisplayName, Permissions: request.Permissions,
		Description: request.Description + " " + marker(mountID, nonce),
		Created:     now.UTC(), Deadline: request.deadline(now),
	}
	l.inFlight.Store(nonce, nil)
	if err := l.store.put(ctx, record); err != nil {
		l.inFlight.Delete(nonce)
		return nil, fmt.Errorf("no token was asked for: %w", err)
	}
	return record, nil
}

// newNonce is for the record of the token.
func (r *IssueRequest) newNonce(now time.Time) string {
	if r.Holder != (Holder{}) {
		return newHolderNonce(r.Holder.Kind)
	}
	return newNonce(later(now.Add(r.TTL), now.Add(bucketLead)))
}

// deadline is zero for a token without a lease.
func (r *IssueRequest) deadline(now time.Time) time.Time {
	if r.Holder != (Holder{}) {
		return time.Time{}
	}
	return now.Add(r.TTL).UTC()
}

// notIssued starts a search where KSeF may have made a token; otherwise it removes the intent.
func (l *Ledger) notIssued(ctx context.Context, record *Record, cause error) error {
	if client.MayHaveActed(cause, client.EndpointGenerateToken) {
		l.reconciler.searchFor(record)
		cause = &LostReplyError{Nonce: record.Nonce, Err: cause}
	} else {
		ctx, cancel := background.Detached(ctx)
		defer cancel()
		if err := l.store.remove(ctx, record.key()); err != nil {
			l.Logger.Warn("an intent is left behind and will be removed later", "nonce", record.Nonce, "error", err)
			l.reconciler.searchFor(record)
		}
	}
	l.OnEvent(Event{Kind: EventIssueFail, Record: *record, Err: cause})
	return cause
}

// recordLive records the token's reference number, and before that the text of a token without a
// lease. The intent stays until the token is returned. Where the record may not have been written,
// the token is revoked and not returned.
func (l *Ledger) recordLive(ctx context.Context, record *Record, token *client.NewToken) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	record.State, record.ReferenceNumber = Live, token.ReferenceNumber
	var err error
	if record.Unleased() {
		err = l.store.putText(ctx, record.ReferenceNumber, token.Token)
	}
	if err == nil {
		err = l.store.put(ctx, record)
	}
	if err == nil {
		l.reconciler.scheduleCheck(record)
		return nil
	}
	revokeErr := l.abandon(ctx, record, "it could not be recorded")
	return errors.Join(fmt.Errorf("KSeF has made the token %s, but it could not be recorded; it will be revoked: %w", token.ReferenceNumber, err), revokeErr)
}

// pollMaxWait is how long a poll of pending tokens waits for KSeF's limits.
const pollMaxWait = 5 * time.Second

// pollTokens asks for one token by its number, and for several by pages of the list, newest first,
// until all were seen.
func (l *Ledger) pollTokens(ctx context.Context, target Target, referenceNumbers []string) (map[string]client.Token, error) {
	api, err := l.Upstream(ctx, target, ratelimit.Wait{AtMost: pollMaxWait})
	if err != nil {
		return nil, err
	}
	if len(referenceNumbers) == 1 {
		token, err := api.Token(ctx, referenceNumbers[0])
		if err == nil {
			return map[string]client.Token{referenceNumbers[0]: *token}, nil
		}
		// The list has its own limit.
		if exhausted := new(*ratelimit.ExhaustedError); !errors.As(err, exhausted) {
			return nil, err
		}
	}
	return l.pollList(ctx, api, referenceNumbers)
}

func (l *Ledger) pollList(ctx context.Context, api Upstream, referenceNumbers []string) (map[string]client.Token, error) {
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	// Later pages have older tokens only, but for those issued since: a few more pages are enough.
	pages := 2 + len(referenceNumbers)/client.MaxPageSize
	seen := make(map[string]client.Token, len(referenceNumbers))
	for tokens, err := range listPages(ctx, api, client.TokenQuery{Description: mountMark(mountID)}) {
		for _, token := range tokens {
			if slices.Contains(referenceNumbers, token.ReferenceNumber) {
				seen[token.ReferenceNumber] = token
			}
		}
		if pages--; err != nil || pages == 0 || len(seen) == len(referenceNumbers) {
			return seen, err
		}
	}
	return seen, nil
}

// settleIssue returns nil for a token that the caller gets. It has any other revoked, but for one
// that KSeF reports as Failed, whose records it removes. The intent is removed last: a remaining
// intent proves that the token was never returned.
func (l *Ledger) settleIssue(ctx context.Context, issued *Issued) error {
	record := &issued.Record
	reason := notReturned(ctx, issued)
	if reason == nil {
		err := l.closeIntent(ctx, issued)
		if err == nil {
			return nil
		}
		reason = fmt.Errorf("KSeF has made the token %s, but that could not be recorded; it will be revoked: %w", record.ReferenceNumber, endedBy(ctx, err))
	}
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	if issued.Status == client.StatusFailed {
		if err := l.store.remove(ctx, append([]string{record.key(), issuingKey(record.Nonce)}, record.textKeys()...)...); err != nil {
			l.Logger.Warn("the record of a failed token is left behind until its deadline", "reference_number", record.ReferenceNumber, "error", err)
		}
		return reason
	}
	if err := l.abandon(ctx, record, "it was never returned"); err != nil {
		return errors.Join(reason, err)
	}
	if err := l.store.remove(ctx, issuingKey(record.Nonce)); err != nil {
		l.Logger.Warn("an intent is left behind and will be removed later", "nonce", record.Nonce, "error", err)
	}
	return reason
}

// notReturned says why a token must not be returned; nil where it can be.
func notReturned(ctx context.Context, issued *Issued) error {
	number, ended := issued.Record.ReferenceNumber, context.Cause(ctx)
	switch {
	case issued.Status == client.StatusFailed:
		return fmt.Errorf("token %s: %w", number, ErrFailed)
	case errors.Is(ended, ErrUnmounting):
		return fmt.Errorf("the token %s was not returned and will be revoked: %w", number, ended)
	case ended != nil:
		return fmt.Errorf("the caller did not wait for the token %s, which will be revoked: %w", number, ended)
	case issued.Status.Dead():
		return fmt.Errorf("the token %s became %s while it was being issued", number, issued.Status)
	case !issued.Until.IsZero() && LeaseLeft(issued.Until, time.Now()) < time.Second:
		return fmt.Errorf("the token %s came too late to be of use before %s, and will be revoked", number, issued.Until.UTC().Format(time.RFC3339))
	}
	return nil
}

// closeIntent records that the token is returned.
func (l *Ledger) closeIntent(ctx context.Context, issued *Issued) error {
	if issued.updated {
		if err := l.store.put(ctx, &issued.Record); err != nil {
			return err
		}
		l.reconciler.scheduleCheck(&issued.Record)
	}
	return l.store.remove(ctx, issuingKey(issued.Record.Nonce))
}

func (l *Ledger) isInFlight(nonce string) bool {
	_, found := l.inFlight.Load(nonce)
	return found
}

// UnclaimedError says that KSeF has made a token that was not returned. The ledger revokes it,
// unless it has failed.
type UnclaimedError struct{ Err error }

func (e *UnclaimedError) Error() string { return e.Err.Error() }

func (e *UnclaimedError) Unwrap() error { return e.Err }

// IsSpent says that a failed Issue may have cost one of KSeF's hourly requests for tokens.
func IsSpent(err error) bool {
	return errors.As(err, new(*LostReplyError)) || errors.As(err, new(*UnclaimedError))
}
