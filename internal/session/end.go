// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// endTimeout bounds how long KSeF is told about ended sessions. What it does
// not hear ends by itself after 7 days.
const endTimeout = 10 * time.Second

// End ends the sessions of all contexts, in storage and in KSeF, and the
// manager with them: whoever still holds it gets ErrEnded. The records go even
// where KSeF cannot be told; those errors are returned together.
func (m *Manager) End(ctx context.Context) error {
	m.ended.Store(true)
	ending, err := m.collect(ctx)
	if err != nil {
		return err
	}
	telling, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	failures := make([]error, len(ending))
	var wait sync.WaitGroup
	for i, session := range ending {
		wait.Go(func() { failures[i] = m.tell(telling, session) })
	}
	wait.Wait()
	return errors.Join(failures...)
}

// collect takes all sessions out of storage and memory.
func (m *Manager) collect(ctx context.Context) ([]*Session, error) {
	stored, err := list(ctx, m.Storage, m.Identity)
	if err != nil {
		return nil, err
	}
	byNumber := make(map[string]*Session)
	for _, session := range stored {
		byNumber[session.ReferenceNumber] = session
		if err := m.Storage.Delete(ctx, storageKey(session.Context)); err != nil {
			return nil, fmt.Errorf("deleting the stored session of %s: %w", session.Context, err)
		}
	}
	for _, session := range m.Sessions() {
		byNumber[session.ReferenceNumber] = &session
	}
	m.mu.Lock()
	m.contexts = make(map[client.Context]*slot)
	m.mu.Unlock()
	ending := make([]*Session, 0, len(byNumber))
	for _, session := range byNumber {
		ending = append(ending, session)
	}
	return ending, nil
}

// end ends a session that came too late.
func (m *Manager) end(ctx context.Context, session *Session) error {
	telling, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	return m.tell(telling, session)
}

func (m *Manager) tell(ctx context.Context, session *Session) error {
	if time.Now().After(session.Refresh.ValidUntil) {
		return nil
	}
	api := m.Client
	if m.Gate != nil {
		api = api.Through(m.Gate(session.Context))
	}
	if err := api.EndSession(ctx, session.Refresh.Token); err != nil {
		return fmt.Errorf("ending the KSeF session of %s: %w", session.Context, err)
	}
	return nil
}
