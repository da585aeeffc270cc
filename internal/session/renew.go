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

// Access returns an access token for the context that is valid now, logging in or refreshing where
// needed. A failure is remembered for a while: those who have waited for it share it, and a login
// that KSeF refuses is not repeated with each request.
func (m *Manager) Access(ctx context.Context, taxpayer client.ContextIdentifier) (client.Secret, error) {
	session, err := m.usable(ctx, taxpayer)
	if err != nil {
		return "", err
	}
	return session.Access.Token, nil
}

// usable is Access with the session that the access token belongs to.
func (m *Manager) usable(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	session, err := m.access(ctx, taxpayer)
	if successor := m.successor(err); successor != nil {
		return successor.usable(ctx, taxpayer)
	}
	return session, err
}

func (m *Manager) access(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	if m.ended.Load() {
		return nil, ErrEnded
	}
	s := m.entry(taxpayer)
	if session := s.get(); session.fresh() {
		return session, nil
	}
	return m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		if session := s.get(); session.fresh() {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		return m.renew(ctx, s, taxpayer)
	})
}

// AtHand returns the session that there is, with an access token that is valid now: by a refresh at
// most, never by a login. It is nil where only a login would help.
func (m *Manager) AtHand(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	if session := m.inMemory(taxpayer); session.fresh() {
		return session, nil
	}
	session, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		if session := s.get(); session.fresh() {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		return m.refresh(ctx, s, s.get())
	})
	if errors.Is(err, errOver) {
		return nil, nil
	}
	return session, err
}

// Replace returns a session with another access token after KSeF has refused that of the given one
// with a 401: a refreshed one, and where that is refused too, that of a new login.
func (m *Manager) Replace(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session) (*Session, error) {
	session, err := m.replace(ctx, taxpayer, refused)
	if successor := m.successor(err); successor != nil {
		return successor.Replace(ctx, taxpayer, refused)
	}
	return session, err
}

func (m *Manager) replace(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session) (*Session, error) {
	return m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		session := s.get()
		if session.fresh() && !session.hasAccessOf(refused) {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		if session != nil && session.replaced {
			return m.loginAgain(ctx, s, taxpayer)
		}
		renewed, err := m.renew(ctx, s, taxpayer)
		if err == nil {
			s.markReplaced()
		}
		return renewed, err
	})
}

// rebind returns a session that is bound to the present address of this node, after KSeF has
// refused a request under the given one for its address: that of a new login, as another node may
// have made the one before.
func (m *Manager) rebind(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session, cause error) (*Session, error) {
	if refused.External {
		return nil, m.addressError(ctx, refused, cause)
	}
	session, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		if session := s.get(); session.fresh() && session.ReferenceNumber != refused.ReferenceNumber {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		return m.loginAgain(ctx, s, taxpayer)
	})
	if successor := m.successor(err); successor != nil {
		return successor.rebind(ctx, taxpayer, refused, cause)
	}
	return session, err
}

// renew replaces the session's access token: by a refresh, or where KSeF no longer accepts the
// session, by one login.
func (m *Manager) renew(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	session, err := m.refresh(ctx, s, s.get())
	if errors.Is(err, errOver) {
		return m.loginAgain(ctx, s, taxpayer)
	}
	return session, err
}

// errOver is the answer where only a login helps.
var errOver = errors.New("KSeF no longer accepts the session")

// refresh gets a new access token for a session, and keeps both. It fails with errOver where there
// is no session, or none that KSeF accepts.
func (m *Manager) refresh(ctx context.Context, s *entry, session *Session) (*Session, error) {
	if session == nil || s.isRefused(session) || !time.Now().Before(session.Refresh.ValidUntil) {
		return nil, errOver
	}
	access, err := m.auth.Refresh(ctx, session.Refresh.Token)
	switch {
	case err == nil:
		refreshed := session.withAccess(*access)
		s.set(refreshed)
		return refreshed, nil
	case client.IsAddressRefused(err) && session.External:
		// Another node may go on with a login that only a person can repeat.
		err = m.addressError(ctx, session, err)
		s.fail(ctx, err)
		return nil, err
	case client.IsRefusal(err) && !client.IsRateLimited(err):
		m.Logger.Info("KSeF no longer accepts the session", "context", session.Context, "reason", err)
		s.refuse(session)
		m.drop(ctx, s, session)
		return nil, errOver
	}
	err = fmt.Errorf("refreshing the KSeF session in %s: %w", session.Context, err)
	s.fail(ctx, err)
	return nil, err
}

// loginAgain logs in and stores the session. Where only a person can do that, he may have brought a
// login past this manager.
func (m *Manager) loginAgain(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	newer, err := m.newerExternal(ctx, s, taxpayer)
	if err != nil {
		s.fail(ctx, err)
		return nil, err
	}
	if refreshed, err := m.refresh(ctx, s, newer); !errors.Is(err, errOver) {
		return refreshed, err
	}
	before := s.get()
	session, err := m.login(ctx, s, taxpayer)
	if err != nil {
		s.fail(ctx, err)
		return nil, err
	}
	if m.ended.Load() {
		return nil, errors.Join(ErrEnded, m.Discard(ctx, session))
	}
	if before != nil && !before.External {
		m.retire(ctx, s, before)
	}
	if err := m.store(ctx, m.ConfigFingerprint, session); err != nil {
		// The login holds in memory; losing it costs one more login later.
		m.Logger.Warn("the KSeF session could not be stored", "context", taxpayer, "error", err)
	}
	return session, nil
}
