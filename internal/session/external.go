// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/client"
)

// ErrNotStored says that a login works, but ends with the process.
var ErrNotStored = errors.New("the login works until the next start, but could not be stored")

// Keep keeps the session of an external login, and ends the one that it replaces. It fails with
// ErrNotStored where the session is kept in memory only, and otherwise only where it is not kept.
func (m *Manager) Keep(ctx context.Context, session *Session) error {
	replaced, err := m.store(ctx, m.ExternalFingerprint, session)
	if err != nil {
		m.markUnstored(ctx, m.entry(session.Context), session)
	}
	inMemory := m.keepInMemory(ctx, session)
	switch {
	case err != nil && inMemory != nil:
		return errors.Join(err, inMemory)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	m.OnLogin(session.Context, nil)
	if replaced != nil {
		if err := m.Discard(ctx, replaced); err != nil {
			m.Logger.Warn("the session before could not be ended yet", "context", session.Context, "error", err)
		}
	}
	m.learn(ctx, session)
	return nil
}

func (m *Manager) keepInMemory(ctx context.Context, session *Session) error {
	_, err := m.orSuccessor(func(m *Manager) (*Session, error) {
		return m.withEntry(ctx, session.Context, func(s *entry) (*Session, error) {
			s.set(session)
			return session, nil
		})
	})
	return err
}

// drop forgets an external login that KSeF no longer accepts, so that it does not pass for one that
// works.
func (m *Manager) drop(ctx context.Context, s *entry, session *Session) {
	if !session.External {
		return
	}
	s.set(nil)
	m.retire(ctx, s, session)
	stored, err := load(ctx, m.sessions, m.ExternalFingerprint, session.Context)
	if err == nil && stored != nil && stored.ReferenceNumber == session.ReferenceNumber {
		err = m.sessions.Delete(ctx, stored.key)
	}
	if err != nil {
		m.Logger.Warn("a login that KSeF no longer accepts could not be deleted from storage", "context", session.Context, "error", err)
	}
}

// newerExternal returns a stored external login that is newer than the session in memory and that
// KSeF has not refused, nil for none.
func (m *Manager) newerExternal(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	if m.Begin != nil {
		return nil, nil
	}
	stored, err := m.stored(ctx, taxpayer)
	current := s.get()
	switch {
	case err != nil || stored == nil:
		return nil, err
	case s.refused == stored.ReferenceNumber:
		m.drop(ctx, s, stored) // its deletion has failed before
		return nil, nil
	case current != nil && !stored.Since.After(current.Since):
		return nil, nil
	}
	return stored, nil
}
