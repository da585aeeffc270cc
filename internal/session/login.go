// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

const (
	// loginTimeout bounds a whole login; Vault's client gives a request 60 seconds.
	loginTimeout = 50 * time.Second
	firstPoll    = 500 * time.Millisecond
	longestPoll  = 5 * time.Second

	// redeemAttempts covers the moment in which not every part of KSeF knows that a login is done.
	redeemAttempts = 3
)

// learnTimeout bounds Learn, on which the login does not depend.
const learnTimeout = 5 * time.Second

// Login always logs in anew. It does not store the session; Save does, once the configuration has
// been stored.
func (m *Manager) Login(ctx context.Context, taxpayer client.ContextIdentifier) error {
	_, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) { return m.login(ctx, s, taxpayer) })
	return err
}

// RefreshOrLogin proves that the session can be used: it refreshes it, or logs in where there is
// none.
func (m *Manager) RefreshOrLogin(ctx context.Context, taxpayer client.ContextIdentifier) error {
	_, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) { return m.renew(ctx, s, taxpayer) })
	return err
}

// Renew refreshes the session although its access token may be valid, or logs in where KSeF no
// longer accepts it. What Manager remembers of a failure is its answer.
func (m *Manager) Renew(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	never := func(*Session) bool { return false }
	return m.servingOr(ctx, taxpayer, never, func(s *entry) (*Session, error) { return m.renew(ctx, s, taxpayer) })
}

// LoginAgain always logs in anew and stores the session. It then ends the one before.
func (m *Manager) LoginAgain(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	return m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) { return m.loginAgain(ctx, s, taxpayer) })
}

// Prove logs in by Begin and stores the session at once, or refreshes the one that it has stored
// before.
func (m *Manager) Prove(ctx context.Context, taxpayer client.ContextIdentifier) error {
	_, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		own, err := load(ctx, m.sessions, m.ConfigFingerprint, taxpayer)
		if err != nil {
			return nil, err
		}
		if own != nil {
			s.set(own)
			return m.renew(ctx, s, taxpayer)
		}
		session, err := m.login(ctx, s, taxpayer)
		if err != nil {
			return nil, err
		}
		_, err = m.store(ctx, m.ConfigFingerprint, session)
		return session, err
	})
	return err
}

// Save stores the session, unless it is an external one: Keep has stored that, and another may have
// replaced it since.
func (m *Manager) Save(ctx context.Context, taxpayer client.ContextIdentifier) error {
	session := m.entry(taxpayer).get()
	if session == nil || session.External {
		return nil
	}
	_, err := m.store(ctx, m.ConfigFingerprint, session)
	return err
}

// login logs in and keeps the session in memory.
func (m *Manager) login(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	session, err := m.newLogin(ctx, s, taxpayer)
	if err != nil {
		err = fmt.Errorf("logging in to KSeF in %s: %w", taxpayer, err)
		m.OnLogin(taxpayer, err)
		return nil, err
	}
	s.set(session)
	m.OnLogin(taxpayer, nil)
	m.learn(ctx, session)
	return session, nil
}

func (m *Manager) learn(ctx context.Context, session *Session) {
	learning, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	m.Learn(learning, session.Context, session.Access.Token)
}

// newLogin submits a login and completes it. The number of its session is stored until the session
// is, so that a lost one can be ended.
func (m *Manager) newLogin(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	if m.Begin == nil {
		return nil, m.noSigner(ctx, taxpayer)
	}
	operation, seenFrom, err := m.Begin(ctx, m.auth, taxpayer)
	if err != nil {
		return nil, err
	}
	session := &Session{ReferenceNumber: operation.ReferenceNumber, Context: taxpayer, API: m.API, Subject: m.Subject, seenFrom: seenFrom}
	m.markUnstored(ctx, s, session)
	tokens, err := Complete(ctx, m.auth, operation)
	switch {
	case errors.As(err, new(*client.LoginError)):
		m.forgetUnstored(ctx, s, taxpayer, session.ReferenceNumber) // it has no session
		return nil, err
	case err != nil:
		s.markLost(session.ReferenceNumber)
		return nil, err
	}
	session.Access, session.Refresh, session.Since = tokens.Access, tokens.Refresh, time.Now()
	session.renewal = &renewal{}
	return session, nil
}

// noSigner returns the error where only an external login would help.
func (m *Manager) noSigner(ctx context.Context, taxpayer client.ContextIdentifier) error {
	if m.Undecided != nil {
		if err := m.Undecided(ctx, taxpayer); err != nil {
			return err
		}
	}
	return &client.InputError{
		Field: "login", Fault: "has ended, or has never been made, in " + taxpayer.String() + ", and config has no certificate to log in with",
		Remedy: "have a person sign the answer of login/begin and bring it to login/complete, or write a certificate to config",
	}
}

// Complete polls a login that was submitted with a signature or a KSeF token until KSeF has
// decided, and redeems it. It fails with a *client.LoginError where KSeF refuses the login.
func Complete(ctx context.Context, api *client.Client, operation *client.Operation) (*client.Tokens, error) {
	poll := firstPoll
	for {
		state, err := api.LoginStatus(ctx, operation)
		switch {
		case err != nil:
			return nil, err
		case state.Done:
			return redeem(ctx, api, operation)
		}
		if !background.Sleep(ctx, poll) {
			return nil, fmt.Errorf("KSeF has not decided the login %s yet: %w", operation.ReferenceNumber, ctx.Err())
		}
		poll = min(poll*3/2, longestPoll)
	}
}

func redeem(ctx context.Context, api *client.Client, operation *client.Operation) (*client.Tokens, error) {
	for attempt := 1; ; attempt++ {
		tokens, err := api.Redeem(ctx, operation)
		if attempt == redeemAttempts || !client.HasCode(err, client.CodeNotRedeemable) {
			return tokens, err
		}
		if !background.Sleep(ctx, firstPoll) {
			return nil, ctx.Err()
		}
	}
}
