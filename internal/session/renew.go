// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// refreshMargin is how long before its end an access token is replaced; KSeF's live for 15 minutes.
const refreshMargin = 90 * time.Second

// usable returns a session whose access token is valid now, by a refresh or a login where needed.
// Failures are remembered for a while: waiting callers share them, and a login that KSeF refuses is
// not repeated with each request.
func (m *Manager) usable(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	return m.orSuccessor(func(m *Manager) (*Session, error) {
		return m.freshOr(ctx, taxpayer, func(s *entry) (*Session, error) { return m.renew(ctx, s, taxpayer) })
	})
}

// AtHand is like usable, but never logs in: it returns nil where only a login would help.
func (m *Manager) AtHand(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	session, err := m.freshOr(ctx, taxpayer, func(s *entry) (*Session, error) { return m.refresh(ctx, s, s.get()) })
	if errors.Is(err, errNotRefreshable) {
		return nil, nil
	}
	return session, err
}

// freshOr returns the session in memory, or what renew returns where its access token is not valid
// for long enough.
func (m *Manager) freshOr(ctx context.Context, taxpayer client.ContextIdentifier, renew func(*entry) (*Session, error)) (*Session, error) {
	if m.ended.Load() {
		return nil, ErrEnded
	}
	if session := m.entry(taxpayer).get(); session.fresh() {
		return session, nil
	}
	return m.servingOr(ctx, taxpayer, (*Session).fresh, renew)
}

// servingOr returns the session that callers before have made if it serves, or their failure, or
// what renew returns.
func (m *Manager) servingOr(ctx context.Context, taxpayer client.ContextIdentifier, serves func(*Session) bool, renew func(*entry) (*Session, error)) (*Session, error) {
	return m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		if session := s.get(); serves(session) {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		return renew(s)
	})
}

// Replace returns a session with another access token after a 401: the token is refreshed, and
// where a refreshed one is refused too, a new login is made.
func (m *Manager) Replace(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session) (*Session, error) {
	return m.orSuccessor(func(m *Manager) (*Session, error) {
		isAnother := func(session *Session) bool { return session.fresh() && !session.hasAccessOf(refused) }
		return m.servingOr(ctx, taxpayer, isAnother, func(s *entry) (*Session, error) {
			if session := s.get(); session != nil && session.isReplacement {
				return m.loginAgain(ctx, s, taxpayer)
			}
			renewed, err := m.renew(ctx, s, taxpayer)
			if err != nil {
				return nil, err
			}
			replacement := *renewed
			replacement.isReplacement = true
			s.set(&replacement)
			return &replacement, nil
		})
	})
}

// rebind returns a session of a new login, after KSeF has refused a request for its address:
// another node, at another address, may have made the login before.
func (m *Manager) rebind(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session, cause error) (*Session, error) {
	if refused.External {
		return nil, m.addressError(ctx, refused, cause)
	}
	return m.orSuccessor(func(m *Manager) (*Session, error) {
		isAnother := func(session *Session) bool {
			return session.fresh() && session.ReferenceNumber != refused.ReferenceNumber
		}
		return m.servingOr(ctx, taxpayer, isAnother, func(s *entry) (*Session, error) { return m.loginAgain(ctx, s, taxpayer) })
	})
}

// renew refreshes the access token, or logs in where KSeF no longer accepts the session.
func (m *Manager) renew(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	session, err := m.refresh(ctx, s, s.get())
	if errors.Is(err, errNotRefreshable) {
		return m.loginAgain(ctx, s, taxpayer)
	}
	return session, err
}

// errNotRefreshable is returned where only a login helps.
var errNotRefreshable = errors.New("KSeF no longer accepts the session")

// refresh gets a new access token for a session and keeps both. It returns errNotRefreshable where
// there is no session, or none that KSeF accepts.
func (m *Manager) refresh(ctx context.Context, s *entry, session *Session) (*Session, error) {
	if !session.IsAlive() || s.refused == session.ReferenceNumber {
		return nil, errNotRefreshable
	}
	access, err := m.auth.Refresh(ctx, session.Refresh.Token)
	switch {
	case err == nil:
		refreshed := session.withAccess(*access)
		s.set(refreshed)
		return refreshed, nil
	case client.IsAddressRefused(err) && session.External:
		// It stays: another node may use it, and only a person can repeat it.
		return nil, s.fail(ctx, m.addressError(ctx, session, err))
	case client.IsRefusal(err) && !client.IsRateLimited(err):
		m.Logger.Info("KSeF no longer accepts the session", "context", session.Context, "reason", err)
		s.refused = session.ReferenceNumber
		m.drop(ctx, s, session)
		return nil, errNotRefreshable
	}
	return nil, s.fail(ctx, fmt.Errorf("refreshing the KSeF session in %s: %w", session.Context, err))
}

// loginAgain logs in and stores the session. Without Begin it looks for an external login that
// another manager has stored.
func (m *Manager) loginAgain(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	newer, err := m.newerExternal(ctx, s, taxpayer)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if refreshed, err := m.refresh(ctx, s, newer); !errors.Is(err, errNotRefreshable) {
		return refreshed, err
	}
	before := s.get()
	session, err := m.login(ctx, s, taxpayer)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if m.ended.Load() {
		return nil, errors.Join(ErrEnded, m.Discard(ctx, session))
	}
	if before != nil && !before.External {
		m.retire(ctx, s, before)
	}
	if _, err := m.store(ctx, m.ConfigFingerprint, session); err != nil {
		// The session stays in memory: without it in storage, the next start logs in again.
		m.Logger.Warn("the KSeF session could not be stored", "context", taxpayer, "error", err)
	}
	return session, nil
}
