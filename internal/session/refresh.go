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
