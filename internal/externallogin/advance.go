// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/session"
)

const (
	// The pause between two polls grows from the first to the longest. KSeF asks the issuer of a
	// qualified certificate, which has been seen to take half an hour.
	firstPoll   = time.Second
	longestPoll = 30 * time.Second
	// redeemMaxWait is how long a login that KSeF calls done may not be redeemable yet.
	redeemMaxWait = time.Minute
)

// pollState is what this process knows of a login beyond its record.
type pollState struct {
	next  time.Time
	err   error
	count int
	// succeeded is when KSeF first reported success.
	succeeded time.Time
	// responseLost is set once KSeF may have given out the session in a lost response.
	responseLost bool
}

// FailedError is returned for a login that another caller has seen fail.
type FailedError struct{ Text string }

func (e *FailedError) Error() string { return e.Text }

// Await advances a submitted login until it has ended or ctx has. ended is false where KSeF has not
// decided by then; Advance continues. The error is why the login failed.
func (l *Logins) Await(ctx context.Context, challenge string) (ended bool, err error) {
	for {
		next, err := l.advanceOne(ctx, challenge)
		if next.IsZero() {
			return true, err
		}
		if !background.Sleep(ctx, time.Until(next)) {
			return false, nil
		}
	}
}

// Advance advances all submitted logins. next is when to call it again; zero if no login is in
// progress. Errors of single logins are in their State.
func (l *Logins) Advance(ctx context.Context) (next time.Time, err error) {
	logins, err := l.all(ctx)
	if err != nil {
		return time.Now().Add(longestPoll), err
	}
	for _, login := range logins {
		if !login.isPending() {
			continue
		}
		nextPoll, _ := l.advanceOne(ctx, login.Challenge)
		next = background.Earlier(next, nextPoll)
	}
	return next, nil
}

// advanceOne takes the next step of a login if it is due. next is zero once the login has ended.
func (l *Logins) advanceOne(ctx context.Context, challenge string) (next time.Time, err error) {
	if err := l.lock.Acquire(ctx, 1); err != nil {
		return time.Now().Add(longestPoll), fmt.Errorf("waiting for another login: %w", err)
	}
	defer l.lock.Release(1)
	if nextPoll := l.pollState(challenge).next; nextPoll.After(time.Now()) {
		return nextPoll, nil
	}
	login, err := l.load(ctx, challenge)
	if err != nil {
		return l.pollLater(challenge, err), err
	}
	switch {
	case login != nil && !login.Failed.IsZero():
		return time.Time{}, &FailedError{Text: login.Failure}
	case login == nil || !login.isPending():
		return time.Time{}, nil
	}
	return l.step(ctx, login)
}

func (l *Logins) step(ctx context.Context, login *record) (next time.Time, err error) {
	upstream, err := l.Open(ctx)
	switch {
	case err != nil:
		return l.pollLater(login.Challenge, err), err
	case upstream.API != login.API:
		return time.Time{}, l.fail(ctx, login, errors.New("config leads to another KSeF than the login was begun for"))
	case time.Now().After(login.OperationUntil):
		return time.Time{}, l.fail(ctx, login, errors.New("KSeF did not decide in the time in which it can be asked"))
	}
	state, err := upstream.Client.LoginStatus(ctx, login.operation())
	switch {
	case isFinal(err):
		return time.Time{}, l.fail(ctx, login, err)
	case err != nil || !state.Done:
		return l.pollLater(login.Challenge, err), err
	case state.Redeemed:
		return l.endRedeemed(ctx, upstream, login)
	}
	return l.redeem(ctx, upstream, login)
}

// redeem fetches the session, which KSeF gives out once, and keeps it.
func (l *Logins) redeem(ctx context.Context, upstream *Upstream, login *record) (next time.Time, err error) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	tokens, err := upstream.Client.Redeem(ctx, login.operation())
	switch {
	case client.MayHaveActed(err, client.EndpointRedeem):
		return l.setResponseLost(login.Challenge, err), err
	case client.HasCode(err, client.CodeNotRedeemable) && l.pollState(login.Challenge).responseLost:
		return l.endRedeemed(ctx, upstream, login)
	case client.HasCode(err, client.CodeNotRedeemable) && l.sinceSucceeded(login.Challenge) < redeemMaxWait:
		return l.pollLater(login.Challenge, err), err
	case client.IsRefusal(err) && !client.IsRateLimited(err) && !client.IsAddressRefused(err):
		return time.Time{}, l.fail(ctx, login, fmt.Errorf("KSeF does not give out the session of the login: %w", err))
	case err != nil:
		return l.pollLater(login.Challenge, err), err
	}
	return time.Time{}, l.keep(ctx, upstream, login, tokens)
}

// endRedeemed ends a login whose session KSeF has given out already: it was kept, or it is lost.
func (l *Logins) endRedeemed(ctx context.Context, upstream *Upstream, login *record) (next time.Time, err error) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	kept, err := upstream.Lost(ctx, login.session())
	switch {
	case err != nil:
		return l.pollLater(login.Challenge, err), err
	case kept:
		return time.Time{}, l.drop(ctx, login.Challenge)
	}
	return time.Time{}, l.fail(ctx, login, &FailedError{Text: "KSeF gives out the session of a login once, and its response for " + login.ReferenceNumber + " was lost: " +
		"begin again with login/begin, and have its answer signed"})
}

// keep passes the session on, and ends a session that cannot be kept.
func (l *Logins) keep(ctx context.Context, upstream *Upstream, login *record, tokens *client.Tokens) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	made := login.session()
	made.Access, made.Refresh, made.Since = tokens.Access, tokens.Refresh, time.Now()
	err := upstream.Keep(ctx, made)
	if err == nil || errors.Is(err, session.ErrNotStored) {
		return errors.Join(err, l.drop(ctx, login.Challenge))
	}
	ended := upstream.Discard(ctx, made)
	if ended != nil {
		_, lost := upstream.Lost(ctx, made)
		ended = errors.Join(ended, lost)
	}
	return l.fail(ctx, login, errors.Join(fmt.Errorf("the session could not be kept, and the login must be signed again: %w", err), ended))
}

// isFinal says that KSeF has refused the login, or can no longer be asked for it.
func isFinal(err error) bool {
	if refused, found := errors.AsType[*client.APIError](err); found {
		return refused.Status == http.StatusGone || refused.Status == http.StatusUnauthorized || refused.Has(client.CodeUnknownLogin) || refused.Has(client.CodeDeceased)
	}
	return errors.As(err, new(*client.LoginError))
}

// fail records why a login failed, and returns that.
func (l *Logins) fail(ctx context.Context, login *record, cause error) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	login.Failed, login.Failure, login.Operation = time.Now().UTC(), cause.Error(), ""
	l.forgetPolls(login.Challenge)
	l.OnFail(login.Context, cause)
	return errors.Join(cause, l.save(ctx, login))
}

// State describes a login in progress.
type State struct {
	Context client.ContextIdentifier
	Began   time.Time
	// ReferenceNumber is empty until the signed request is submitted, by ValidUntil at the latest.
	ReferenceNumber string
	ValidUntil      time.Time
	// Next is when this process asks KSeF again, Err why it has to.
	Next time.Time
	Err  error
	// Failure is why the login failed, or empty.
	Failure string
}

// States returns the logins in progress, and those that failed in the last day.
func (l *Logins) States(ctx context.Context) ([]State, error) {
	logins, err := l.all(ctx)
	if err != nil {
		return nil, err
	}
	var states []State
	for _, login := range logins {
		if login.isObsolete(time.Now()) {
			continue
		}
		poll := l.pollState(login.Challenge)
		states = append(states, State{
			Context: login.Context, Began: login.Began, ReferenceNumber: login.ReferenceNumber, ValidUntil: login.ValidUntil,
			Next: poll.next, Err: poll.err, Failure: login.Failure,
		})
	}
	return states, nil
}

func (l *Logins) pollState(challenge string) pollState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.polls[challenge]
}

func (l *Logins) forgetPolls(challenge string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.polls, challenge)
}

// pollLater schedules the next step. err is why, or nil where KSeF has not decided yet.
func (l *Logins) pollLater(challenge string, err error) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	poll := l.polls[challenge]
	pause := background.Backoff{Shortest: firstPoll, Longest: longestPoll}.Exact(poll.count)
	poll.count++
	poll.next, poll.err = time.Now().Add(pause), err
	l.polls[challenge] = poll
	return poll.next
}

// setResponseLost records that the response with the session was lost, and schedules a step soon.
func (l *Logins) setResponseLost(challenge string, err error) time.Time {
	l.mu.Lock()
	if poll := l.polls[challenge]; !poll.responseLost {
		poll.responseLost, poll.count = true, 0
		l.polls[challenge] = poll
	}
	l.mu.Unlock()
	return l.pollLater(challenge, err)
}

// sinceSucceeded returns how long ago KSeF first reported success.
func (l *Logins) sinceSucceeded(challenge string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	poll := l.polls[challenge]
	if poll.succeeded.IsZero() {
		poll.succeeded = time.Now()
		l.polls[challenge] = poll
	}
	return time.Since(poll.succeeded)
}
