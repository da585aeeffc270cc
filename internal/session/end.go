// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// endTimeout bounds how long KSeF is told about ended sessions. What it does not hear ends by
// itself after 7 days.
const endTimeout = 10 * time.Second

// End ends the sessions of all contexts, in storage and in KSeF, and the manager with them: whoever
// still holds it gets ErrEnded. Sessions of other configurations, and logins that were signed
// outside of Vault, are left for the next configuration of the same API, unless all are to go. The
// records go even where KSeF cannot be told; those errors are returned together.
func (m *Manager) End(ctx context.Context, all bool) error {
	m.ended.Store(true)
	ending, err := m.collect(ctx, all)
	if err != nil {
		return err
	}
	telling, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	failures := make([]error, len(ending))
	var wait sync.WaitGroup
	for i, session := range ending {
		wait.Go(func() {
			if failures[i] = m.endUpstreamContained(telling, session); failures[i] == nil {
				m.deleteUnstored(ctx, session.Context, session.ReferenceNumber)
			}
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// collect takes the sessions out of storage and memory.
func (m *Manager) collect(ctx context.Context, all bool) ([]*Session, error) {
	stored, err := m.listed(ctx, all)
	if err != nil {
		return nil, err
	}
	byNumber := make(map[string]*Session)
	for _, session := range stored {
		byNumber[session.ReferenceNumber] = session
		m.saveUnstored(ctx, nil, session.Context, newUnstored(session)) // so that it is ended also where this process dies meanwhile
		if err := m.Storage.Delete(ctx, session.key); err != nil {
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

// listed are the manager's own sessions in storage, or all that are of its API.
func (m *Manager) listed(ctx context.Context, all bool) ([]*Session, error) {
	if !all {
		return list(ctx, m.Storage, folder(m.ConfigFingerprint))
	}
	stored, err := listAll(ctx, m.Storage)
	return slices.DeleteFunc(stored, func(session *Session) bool { return session.API != m.API }), err
}

// Supersede ends the sessions that the manager's own logins have taken the place of: those of other
// credentials, and those that its subject has signed outside of Vault. Each is forgotten once KSeF
// knows; the others stay for the next call, and their errors are returned together.
func (m *Manager) Supersede(ctx context.Context) error {
	stored, err := listAll(ctx, m.Storage)
	if err != nil {
		return err
	}
	telling, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	var failures []error
	for _, session := range stored {
		if !m.supersedes(session) {
			continue
		}
		switch err := m.endUpstream(telling, session); {
		case client.IsAddressRefused(err):
			// It stays refused from here. The session that has taken its place may end it by its
			// number.
			m.retire(ctx, m.entry(session.Context), session)
		case err != nil && !hasEnded(err):
			failures = append(failures, err)
			continue
		}
		if err := m.Storage.Delete(ctx, session.key); err != nil {
			failures = append(failures, fmt.Errorf("deleting the stored session of %s: %w", session.Context, err))
		}
		m.Forget(session.Context.String())
	}
	return errors.Join(failures...)
}

// hasEnded says that KSeF has refused to end a session since it knows none.
func hasEnded(err error) bool {
	var refused *client.APIError
	return errors.As(err, &refused) && (refused.Status == http.StatusBadRequest || refused.Status == http.StatusUnauthorized || refused.Status == http.StatusGone)
}

func (m *Manager) supersedes(session *Session) bool {
	switch {
	case session.API != m.API:
		return false // another KSeF must not see its tokens
	case session.External:
		return session.Subject == m.Subject
	}
	return storageKey(m.ConfigFingerprint, session.Context) != session.key
}

// Discard ends a session in KSeF that nobody keeps.
func (m *Manager) Discard(ctx context.Context, session *Session) error {
	telling, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if err := m.endUpstream(telling, session); err != nil {
		return err
	}
	m.forgetUnstored(ctx, m.entry(session.Context), session.Context, session.ReferenceNumber)
	return nil
}

// endUpstreamContained is tell for a goroutine: a panic becomes an error, since the process serves
// other mounts too. The value of the panic stays out of it, since it may hold anything.
func (m *Manager) endUpstreamContained(ctx context.Context, session *Session) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			m.Logger.Error("ending a session panicked", "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
			err = fmt.Errorf("ending the KSeF session of %s failed (%T); the log has the stack", session.Context, cause)
		}
	}()
	return m.endUpstream(ctx, session)
}

func (m *Manager) endUpstream(ctx context.Context, session *Session) error {
	if time.Now().After(session.Refresh.ValidUntil) {
		return nil
	}
	api := m.Client
	if m.Limiter != nil {
		api = api.WithLimiter(m.Limiter(session.Context))
	}
	if err := api.EndSession(ctx, session.Refresh.Token); err != nil {
		return fmt.Errorf("ending the KSeF session of %s: %w", session.Context, err)
	}
	return nil
}
