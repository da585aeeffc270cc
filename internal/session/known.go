// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Known returns the session of a context as memory or storage has it, nil for
// none. It asks nothing of KSeF.
func (m *Manager) Known(ctx context.Context, in client.Context) (*Session, error) {
	if session := m.inMemory(in); session != nil {
		return session, nil
	}
	return m.stored(ctx, in)
}

// RemembersFailure says that a request in the context would be answered by a failure of before,
// without asking KSeF.
func (m *Manager) RemembersFailure(in client.Context) bool {
	s := m.existingSlot(in)
	return s != nil && s.recentFailure() != nil
}

// FailedAt is when a login or refresh in the context has failed last, as far as memory knows.
func (m *Manager) FailedAt(in client.Context) time.Time {
	s := m.existingSlot(in)
	if s == nil {
		return time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failedAt
}

// Refusals are the logins that KSeF, or config by its allowed_ips, has lately refused, one for each
// context.
func (m *Manager) Refusals() []error {
	var refusals []error
	for _, s := range m.slots() {
		var refused *client.LoginError
		var address *AddressError
		if err := s.recentFailure(); errors.As(err, &refused) || errors.As(err, &address) {
			refusals = append(refusals, err)
		}
	}
	return refusals
}

// inMemory is the session of a context as memory has it, nil for none.
func (m *Manager) inMemory(in client.Context) *Session {
	s := m.existingSlot(in)
	if s == nil {
		return nil
	}
	return s.get()
}

// existingSlot is nil for a context that has none, and makes none.
func (m *Manager) existingSlot(in client.Context) *slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contexts[in]
}

// All returns the sessions of all contexts that have not ended, as memory or
// storage has them, without secrets that print. It asks nothing of KSeF.
func (m *Manager) All(ctx context.Context) ([]Session, error) {
	known := make(map[client.Context]*Session)
	for _, folder := range []string{folder(m.Identity), folder(m.Outside)} {
		stored, err := list(ctx, m.Storage, folder)
		if err != nil {
			return nil, err
		}
		for _, session := range stored {
			known[session.Context] = newest(known[session.Context], session)
		}
	}
	for _, session := range m.Sessions() {
		known[session.Context] = &session
	}
	sessions := make([]Session, 0, len(known))
	for _, session := range known {
		if session != nil && time.Now().Before(session.Refresh.ValidUntil) {
			sessions = append(sessions, *session)
		}
	}
	return sessions, nil
}

func (m *Manager) stored(ctx context.Context, in client.Context) (*Session, error) {
	own, err := load(ctx, m.Storage, m.Identity, in)
	if err != nil {
		return nil, err
	}
	outside, err := load(ctx, m.Storage, m.Outside, in)
	if err != nil {
		return nil, err
	}
	return newest(own, outside), nil
}

// newest prefers the login that was made last among those that live.
func newest(own, outside *Session) *Session {
	switch {
	case outside == nil || time.Now().After(outside.Refresh.ValidUntil):
		return own
	case own == nil || own.Since.Before(outside.Since):
		return outside
	}
	return own
}

// AtHand returns the session that there is, with an access token that is valid now: by a refresh at
// most, never by a login. It is nil where only a login would help.
func (m *Manager) AtHand(ctx context.Context, in client.Context) (*Session, error) {
	if session := m.inMemory(in); session.fresh() {
		return session, nil
	}
	session, err := m.inTurn(ctx, in, func(s *slot) (*Session, error) {
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
