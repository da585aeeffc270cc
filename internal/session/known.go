// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Known returns the taxpayer's session as memory or storage has it, nil for none. It sends nothing.
func (m *Manager) Known(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	if session := m.existingEntry(taxpayer).get(); session != nil {
		return session, nil
	}
	return m.stored(ctx, taxpayer)
}

func (m *Manager) stored(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	own, err := load(ctx, m.sessions, m.ConfigFingerprint, taxpayer)
	if err != nil || m.ExternalFingerprint == "" {
		return own, err
	}
	external, err := load(ctx, m.sessions, m.ExternalFingerprint, taxpayer)
	if err != nil {
		return nil, err
	}
	return newest(own, external), nil
}

// newest returns the later of two logins, but an external one only until it expires.
func newest(own, external *Session) *Session {
	switch {
	case !external.IsAlive():
		return own
	case own == nil || own.Since.Before(external.Since):
		return external
	}
	return own
}

// All returns the sessions of all taxpayers that have not expired, as memory or storage has them.
// It sends nothing.
func (m *Manager) All(ctx context.Context) ([]Session, error) {
	known := make(map[client.ContextIdentifier]*Session)
	for _, folder := range []string{folderOf(m.ConfigFingerprint), folderOf(m.ExternalFingerprint)} {
		stored, err := list(ctx, m.sessions, folder)
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
		if session.IsAlive() {
			sessions = append(sessions, *session)
		}
	}
	return sessions, nil
}

// Sessions returns the sessions in memory.
func (m *Manager) Sessions() []Session {
	var sessions []Session
	for _, s := range m.entries() {
		if session := s.get(); session != nil {
			sessions = append(sessions, *session)
		}
	}
	return sessions
}

// SubjectIn returns the subject that is logged in, or would be, as far as memory knows.
func (m *Manager) SubjectIn(taxpayer client.ContextIdentifier) string {
	return m.SubjectOf(m.entry(taxpayer).get())
}

// SubjectOf returns the subject that is logged in with the session, or would be without one (nil).
func (m *Manager) SubjectOf(session *Session) string {
	if session != nil && session.External {
		return session.Subject
	}
	return m.Subject
}

// RemembersFailure says that a request would be answered by an earlier failure, without asking
// KSeF.
func (m *Manager) RemembersFailure(taxpayer client.ContextIdentifier) bool {
	return m.existingEntry(taxpayer).recentFailure() != nil
}

// FailedAt returns when a login or refresh failed last, as far as memory knows.
func (m *Manager) FailedAt(taxpayer client.ContextIdentifier) time.Time {
	s := m.existingEntry(taxpayer)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failedAt
}

// Refusals returns the logins that KSeF, or allowed_ips of config, has lately refused, one per
// taxpayer.
func (m *Manager) Refusals() []error {
	var refusals []error
	for _, s := range m.entries() {
		if err := s.recentFailure(); errors.As(err, new(*client.LoginError)) || errors.As(err, new(*AddressError)) {
			refusals = append(refusals, err)
		}
	}
	return refusals
}
