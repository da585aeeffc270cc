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
	// The pause between two questions for a login grows from the first to the longest: KSeF asks
	// the issuer of a qualified certificate, which has been seen to take half an hour.
	firstPoll   = time.Second
	longestPoll = 30 * time.Second
	// redeemMaxWait is how long a login that KSeF calls done may not be redeemable yet (21301).
	redeemMaxWait = time.Minute

	notRedeemable  = 21301
	unknownLogin   = 21304
	invalidSession = 21308
)

// pace is when a login is looked at next, in this process.
type pace struct {
	due   time.Time
	err   error
	polls int
	// done is when KSeF first said that the login has succeeded.
	done time.Time
	// lost says that KSeF may have given out the session, and that its answer was lost.
	lost bool
}

// FailedError is how a login ended that somebody else has carried on.
type FailedError struct{ Text string }

func (e *FailedError) Error() string { return e.Text }

// Await carries a submitted login on until it has ended or ctx does. It returns false where KSeF
// has not decided by then; Advance goes on. The error is why it came to nothing.
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

// Advance carries all submitted logins on as far as they go now. next is when it wants to be called
// again; zero says that none is in progress. Errors of single logins stand in their State.
func (l *Logins) Advance(ctx context.Context) (next time.Time, err error) {
	logins, err := l.all(ctx)
	if err != nil {
		return time.Now().Add(longestPoll), err
	}
	for _, login := range logins {
		if !login.isPending() {
			continue
		}
		due, _ := l.advanceOne(ctx, login.Challenge)
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next, nil
}

// advanceOne takes the next step of a login if it is due. next is zero once the login has ended.
func (l *Logins) advanceOne(ctx context.Context, challenge string) (next time.Time, err error) {
	if err := l.lock.Acquire(ctx, 1); err != nil {
		return time.Now().Add(longestPoll), fmt.Errorf("waiting for another login: %w", err)
	}
	defer l.lock.Release(1)
	if due := l.pace(challenge).due; due.After(time.Now()) {
		return due, nil
	}
	login, err := l.load(ctx, challenge)
	if err != nil {
		return l.later(challenge, err), err
	}
	switch {
	case login == nil:
		return time.Time{}, nil
	case !login.Failed.IsZero():
		return time.Time{}, &FailedError{Text: login.Failure}
	case !login.isPending():
		return time.Time{}, nil
	}
	return l.step(ctx, login)
}

func (l *Logins) step(ctx context.Context, login *record) (next time.Time, err error) {
	upstream, err := l.Open(ctx)
	switch {
	case err != nil:
		return l.later(login.Challenge, err), err
	case upstream.API != login.API:
		return time.Time{}, l.fail(ctx, login, errors.New("the configuration leads to another KSeF than the login was begun for"))
	case time.Now().After(login.OperationUntil):
		return time.Time{}, l.fail(ctx, login, errors.New("KSeF has not decided while it could be asked"))
	}
	state, err := upstream.Client.LoginStatus(ctx, login.operation())
	switch {
	case isGone(err):
		return time.Time{}, l.fail(ctx, login, err)
	case err != nil:
		return l.later(login.Challenge, err), err
	case state.Code == client.LoginPending:
		return l.later(login.Challenge, nil), nil
	case state.Code != client.LoginDone:
		return time.Time{}, l.fail(ctx, login, &client.LoginError{ReferenceNumber: login.ReferenceNumber, Status: state.Status})
	case state.Redeemed:
		return l.abandonRedeem(ctx, upstream, login)
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
		return l.lose(login.Challenge, err), err
	case client.HasCode(err, notRedeemable) && l.pace(login.Challenge).lost:
		return l.abandonRedeem(ctx, upstream, login)
	case client.HasCode(err, notRedeemable) && l.sinceDone(login.Challenge) < redeemMaxWait:
		return l.later(login.Challenge, err), err
	case client.IsRefusal(err) && !client.IsRateLimited(err) && !client.IsAddressRefused(err):
		return time.Time{}, l.fail(ctx, login, fmt.Errorf("KSeF does not give out the session of the login: %w", err))
	case err != nil:
		return l.later(login.Challenge, err), err
	}
	return time.Time{}, l.keep(ctx, upstream, login, tokens)
}

// abandonRedeem ends a login whose session KSeF has given out, as it does once: it was kept, or
// nobody has it.
func (l *Logins) abandonRedeem(ctx context.Context, upstream *Upstream, login *record) (next time.Time, err error) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	kept, err := upstream.Lost(ctx, login.session())
	switch {
	case err != nil:
		return l.later(login.Challenge, err), err
	case kept:
		return time.Time{}, l.drop(ctx, login)
	}
	return time.Time{}, l.fail(ctx, login, &FailedError{Text: "KSeF has given out the session of the login " + login.ReferenceNumber + " once, as it does, and its answer was lost: " +
		"the login is over; begin again with login/begin, and have its answer signed"})
}

// keep hands the session on, and ends it where nobody can keep it: nobody could use it.
func (l *Logins) keep(ctx context.Context, upstream *Upstream, login *record, tokens *client.Tokens) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	made := login.session()
	made.Access, made.Refresh, made.Since = tokens.Access, tokens.Refresh, time.Now()
	err := upstream.Keep(ctx, made)
	if err == nil || errors.Is(err, session.ErrNotStored) {
		return errors.Join(err, l.drop(ctx, login))
	}
	ended := upstream.Discard(ctx, made)
	if ended != nil {
		_, lost := upstream.Lost(ctx, made)
		ended = errors.Join(ended, lost)
	}
	return l.fail(ctx, login, errors.Join(fmt.Errorf("the session could not be kept, and must be signed for again: %w", err), ended))
}

// isGone says that KSeF can no longer be asked for a login.
func isGone(err error) bool {
	var refused *client.APIError
	return errors.As(err, &refused) && (refused.Status == http.StatusGone || refused.Status == http.StatusUnauthorized ||
		refused.Has(unknownLogin) || refused.Has(invalidSession))
}

// fail remembers why a login came to nothing, and returns that.
func (l *Logins) fail(ctx context.Context, login *record, cause error) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	login.Failed, login.Failure, login.Operation = time.Now().UTC(), cause.Error(), ""
	l.forget(login.Challenge)
	l.OnFail(login.Context, cause)
	return errors.Join(cause, l.save(ctx, login))
}

// State is what can be shown of a login in progress.
type State struct {
	Context client.ContextIdentifier
	Began   time.Time
	// ReferenceNumber is "" until the signed request has been brought; ValidUntil is when that must
	// have happened.
	ReferenceNumber string
	ValidUntil      time.Time
	// Next and Err are when and why this process asks KSeF again.
	Next time.Time
	Err  error
	// Failure is why it came to nothing; "" while it has not.
	Failure string
}

// States are the logins in progress, and those that came to nothing in the last day.
func (l *Logins) States(ctx context.Context) ([]State, error) {
	logins, err := l.all(ctx)
	if err != nil {
		return nil, err
	}
	var states []State
	for _, login := range logins {
		if login.isOver(time.Now()) {
			continue
		}
		pace := l.pace(login.Challenge)
		states = append(states, State{
			Context: login.Context, Began: login.Began, ReferenceNumber: login.ReferenceNumber, ValidUntil: login.ValidUntil,
			Next: pace.due, Err: pace.err, Failure: login.Failure,
		})
	}
	return states, nil
}

func (l *Logins) pace(challenge string) pace {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paces[challenge]
}

func (l *Logins) forget(challenge string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.paces, challenge)
}

// later lets time pass before the next step; err is why, nil where KSeF is only not done.
func (l *Logins) later(challenge string, err error) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	pace := l.paces[challenge]
	wait := longestPoll
	if pace.polls < 5 {
		wait = min(longestPoll, firstPoll<<pace.polls)
	}
	pace.polls++
	pace.due, pace.err = time.Now().Add(wait), err
	l.paces[challenge] = pace
	return pace.due
}

// lose notes that the answer with the session was lost, and has KSeF asked soon what became of it.
func (l *Logins) lose(challenge string, err error) time.Time {
	l.mu.Lock()
	if pace := l.paces[challenge]; !pace.lost {
		pace.lost, pace.polls = true, 0
		l.paces[challenge] = pace
	}
	l.mu.Unlock()
	return l.later(challenge, err)
}

// sinceDone is how long ago KSeF first said that the login has succeeded.
func (l *Logins) sinceDone(challenge string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	pace := l.paces[challenge]
	if pace.done.IsZero() {
		pace.done = time.Now()
		l.paces[challenge] = pace
	}
	return time.Since(pace.done)
}
