// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

// endTimeout bounds how long sessions are ended in KSeF. Those that are not end by themselves after
// 7 days.
const endTimeout = 10 * time.Second

// End ends the manager, which returns ErrEnded from then on, and its sessions, in storage and in
// KSeF. External ones and those of other configurations are left for the next configuration of the
// same API, unless all is set. Sessions are deleted from storage even where KSeF does not end them;
// those errors are returned together.
func (m *Manager) End(ctx context.Context, all bool) error {
	m.ended.Store(true)
	sessions, err := m.collect(ctx, all)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	failures := make([]error, len(sessions))
	var wait sync.WaitGroup
	for i, session := range sessions {
		wait.Go(func() {
			err := m.endUpstream(bounded, session)
			if err == nil || (m.HandedOut && hasEnded(err)) {
				m.deleteUnstored(ctx, session.Context, session.ReferenceNumber)
				return
			}
			failures[i] = err
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// collect removes the sessions from storage and memory. Their numbers stay in storage, so that they
// are ended later where the process crashes before.
func (m *Manager) collect(ctx context.Context, all bool) ([]*Session, error) {
	stored, err := m.listed(ctx, all)
	if err != nil {
		return nil, err
	}
	byNumber := make(map[string]*Session)
	for _, session := range stored {
		byNumber[session.ReferenceNumber] = session
		m.saveUnstored(ctx, m.entry(session.Context), session.Context, newUnstored(session))
		if err := m.sessions.Delete(ctx, session.key); err != nil {
			return nil, fmt.Errorf("deleting the stored session of %s: %w", session.Context, err)
		}
	}
	for _, session := range m.Sessions() {
		if !session.External || all {
			byNumber[session.ReferenceNumber] = &session
		}
	}
	m.mu.Lock()
	m.contexts = make(map[client.ContextIdentifier]*entry)
	m.mu.Unlock()
	return slices.Collect(maps.Values(byNumber)), nil
}

// listed returns the stored sessions of the manager's configuration, or all of its API.
func (m *Manager) listed(ctx context.Context, all bool) ([]*Session, error) {
	if !all {
		return list(ctx, m.sessions, folderOf(m.ConfigFingerprint))
	}
	stored, err := listAll(ctx, m.sessions)
	return slices.DeleteFunc(stored, func(session *Session) bool { return session.API != m.API }), err
}

// Supersede ends the sessions that the manager's own logins replace: those of other credentials,
// and external ones of its subject. Those that KSeF does not end stay for the next call; their
// errors are returned together.
func (m *Manager) Supersede(ctx context.Context) error {
	stored, err := listAll(ctx, m.sessions)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	var failures []error
	for _, session := range stored {
		if !m.supersedes(session) {
			continue
		}
		switch err := m.endUpstream(bounded, session); {
		case client.IsAddressRefused(err):
			// Its own token stays refused at this address. The session that replaces it may end it
			// by its number.
			m.retire(ctx, m.entry(session.Context), session)
		case err != nil && !hasEnded(err):
			failures = append(failures, err)
			continue
		}
		if err := m.sessions.Delete(ctx, session.key); err != nil {
			failures = append(failures, fmt.Errorf("deleting the stored session of %s: %w", session.Context, err))
		}
		m.Forget(session.Context.String())
	}
	return errors.Join(failures...)
}

// hasEnded says that KSeF has refused to end a session because it has ended.
func hasEnded(err error) bool {
	refused, found := errors.AsType[*client.APIError](err)
	return found && slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusGone}, refused.Status)
}

func (m *Manager) supersedes(session *Session) bool {
	switch {
	case session.API != m.API:
		return false // its tokens must not reach another KSeF
	case session.External:
		return session.Subject == m.Subject
	}
	return storageKey(m.ConfigFingerprint, session.Context) != session.key
}

// Discard ends a session in KSeF that is not kept.
func (m *Manager) Discard(ctx context.Context, session *Session) error {
	bounded, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if err := m.endUpstream(bounded, session); err != nil {
		return err
	}
	m.forgetUnstored(ctx, m.entry(session.Context), session.Context, session.ReferenceNumber)
	return nil
}

func (m *Manager) endUpstream(ctx context.Context, session *Session) (err error) {
	defer background.Recover(m.Logger, "ending a KSeF session", &err)
	if !session.IsAlive() {
		return nil
	}
	if err := m.limitedClient(session.Context).EndSession(ctx, session.Refresh.Token); err != nil {
		return fmt.Errorf("ending the KSeF session of %s: %w", session.Context, err)
	}
	return nil
}
