// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package session keeps one live KSeF login per context: it logs in when there
// is none, refreshes it ahead of its end, stores it so that a restart or a
// failover does not log in again, and ends it when its configuration goes.
package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
)

// StoragePrefix is where sessions lie. They hold bearer tokens: the prefix
// belongs among the seal-wrapped paths.
const StoragePrefix = "sessions/"

// refreshMargin is how long before its end an access token is replaced; KSeF's
// live for 15 minutes.
const refreshMargin = 90 * time.Second

// Signer makes the signed document of a login.
type Signer interface {
	// SignLogin returns the AuthTokenRequest for the challenge and context,
	// signed as of the given time.
	SignLogin(challenge string, in client.Context, signingTime time.Time) ([]byte, error)
}

// Session is a login that lives.
type Session struct {
	// ReferenceNumber is KSeF's number of the login.
	ReferenceNumber string
	Context         client.Context
	Access          client.Bearer
	Refresh         client.Bearer
	Since           time.Time
}

// Options are what a Manager works with.
type Options struct {
	Client *client.Client
	// Gate admits the manager's own requests. The zero context is that of
	// logins, which KSeF counts per address. nil admits all.
	Gate    func(client.Context) client.Gate
	Signer  Signer
	Storage logical.Storage
	// Identity tells apart logins made under different configurations: a
	// stored session with another identity is not used.
	Identity string
	// OnLogin is called after each new login and each that failed; nil is allowed.
	OnLogin func(client.Context, error)
	// Learn is called with the access token of each new login, to ask KSeF what
	// holds for it; nil is allowed.
	Learn  func(ctx context.Context, in client.Context, access client.Secret)
	Logger hclog.Logger
}

// Manager keeps the sessions of one configuration. It is safe for concurrent
// use and has no goroutine of its own.
type Manager struct {
	Options
	auth *client.Client

	mu       sync.Mutex
	contexts map[client.Context]*slot
}

// slot holds the session of one context. turn is held by whoever reads,
// refreshes or logs in; the others wait for it with their own contexts.
type slot struct {
	turn    chan struct{}
	mu      sync.Mutex
	current *Session
	loaded  bool
}

// NewManager returns a manager without any session in memory.
func NewManager(options Options) *Manager {
	manager := &Manager{Options: options, auth: options.Client, contexts: make(map[client.Context]*slot)}
	if options.Gate != nil {
		manager.auth = options.Client.Through(options.Gate(client.Context{}))
	}
	if manager.OnLogin == nil {
		manager.OnLogin = func(client.Context, error) {}
	}
	if manager.Learn == nil {
		manager.Learn = func(context.Context, client.Context, client.Secret) {}
	}
	if manager.Logger == nil {
		manager.Logger = hclog.NewNullLogger()
	}
	return manager
}

// Access returns an access token for the context that is valid now, logging in
// or refreshing where needed.
func (m *Manager) Access(ctx context.Context, in client.Context) (client.Secret, error) {
	s := m.slot(in)
	if session := s.get(); session.fresh() {
		return session.Access.Token, nil
	}
	if err := s.take(ctx); err != nil {
		return "", err
	}
	defer s.release()
	if err := m.load(ctx, s, in); err != nil {
		return "", err
	}
	if session := s.get(); session.fresh() {
		return session.Access.Token, nil
	}
	return m.renew(ctx, s, in)
}

// Replace returns an access token after KSeF has refused the given one with a
// 401: a refreshed one, or that of a new login. Callers try once with it and
// then give up, so that a refusal never becomes a loop.
func (m *Manager) Replace(ctx context.Context, in client.Context, refused client.Secret) (client.Secret, error) {
	s := m.slot(in)
	if err := s.take(ctx); err != nil {
		return "", err
	}
	defer s.release()
	if session := s.get(); session != nil && session.Access.Token != refused && session.fresh() {
		return session.Access.Token, nil
	}
	return m.renew(ctx, s, in)
}

// Login makes a new login, whatever there is, and keeps it in memory. It
// writes nothing: Save does, once the configuration has been stored.
func (m *Manager) Login(ctx context.Context, in client.Context) error {
	s := m.slot(in)
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.release()
	_, err := m.login(ctx, s, in)
	return err
}

// Save stores the context's session.
func (m *Manager) Save(ctx context.Context, in client.Context) error {
	session := m.slot(in).get()
	if session == nil {
		return nil
	}
	return save(ctx, m.Storage, m.Identity, session)
}

// Sessions returns what is in memory, without secrets that print.
func (m *Manager) Sessions() []Session {
	m.mu.Lock()
	slots := make([]*slot, 0, len(m.contexts))
	for _, s := range m.contexts {
		slots = append(slots, s)
	}
	m.mu.Unlock()
	var sessions []Session
	for _, s := range slots {
		if session := s.get(); session != nil {
			sessions = append(sessions, *session)
		}
	}
	return sessions
}

// Forget drops what is in memory for a context, so that the next use reads
// storage: another node has changed it.
func (m *Manager) Forget(in string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for candidate := range m.contexts {
		if candidate.String() == in {
			delete(m.contexts, candidate)
		}
	}
}

// renew replaces the session's access token: by a refresh while there is a
// refresh token, otherwise, or if KSeF refuses it, by one login.
func (m *Manager) renew(ctx context.Context, s *slot, in client.Context) (client.Secret, error) {
	session := s.get()
	if session != nil && time.Now().Before(session.Refresh.ValidUntil) {
		access, err := m.auth.Refresh(ctx, session.Refresh.Token)
		if err == nil {
			s.set(session.withAccess(*access))
			return access.Token, nil
		}
		if !client.IsRefusal(err) || client.IsRateLimited(err) {
			return "", fmt.Errorf("refreshing the KSeF session in %s: %w", in, err)
		}
		m.Logger.Info("KSeF no longer accepts the session, logging in anew", "context", in, "reason", err)
	}
	session, err := m.login(ctx, s, in)
	if err != nil {
		return "", err
	}
	if err := save(ctx, m.Storage, m.Identity, session); err != nil {
		// The login holds in memory; losing it costs one more login later.
		m.Logger.Warn("the KSeF session could not be stored", "context", in, "error", err)
	}
	return session.Access.Token, nil
}

// load reads the stored session once per process and context.
func (m *Manager) load(ctx context.Context, s *slot, in client.Context) error {
	if s.isLoaded() {
		return nil
	}
	session, err := load(ctx, m.Storage, m.Identity, in)
	if err != nil {
		return err
	}
	s.finishLoad(session)
	return nil
}

// End ends the sessions of all contexts, in storage and in KSeF. The records
// go even where KSeF cannot be told; those errors are returned together.
func (m *Manager) End(ctx context.Context) error {
	stored, err := list(ctx, m.Storage, m.Identity)
	if err != nil {
		return err
	}
	ending := make(map[client.Context]*Session)
	for _, session := range stored {
		ending[session.Context] = session
	}
	for _, session := range m.Sessions() {
		ending[session.Context] = &session
	}
	m.mu.Lock()
	m.contexts = make(map[client.Context]*slot)
	m.mu.Unlock()
	failures := make([]error, 0, len(ending))
	for _, session := range ending {
		failures = append(failures, m.end(ctx, session))
	}
	return errors.Join(failures...)
}

func (m *Manager) end(ctx context.Context, session *Session) error {
	if err := m.Storage.Delete(ctx, storageKey(session.Context)); err != nil {
		return fmt.Errorf("deleting the stored session of %s: %w", session.Context, err)
	}
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

func (m *Manager) slot(in client.Context) *slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.contexts[in]
	if s == nil {
		s = &slot{turn: make(chan struct{}, 1)}
		m.contexts[in] = s
	}
	return s
}

func (s *slot) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the KSeF login: %w", ctx.Err())
	}
}

func (s *slot) release() { <-s.turn }

func (s *slot) get() *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *slot) set(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.loaded = session, true
}

func (s *slot) isLoaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded
}

func (s *slot) finishLoad(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = true
	if s.current == nil {
		s.current = session
	}
}

func (s *Session) fresh() bool {
	return s != nil && time.Until(s.Access.ValidUntil) > refreshMargin
}

func (s *Session) withAccess(access client.Bearer) *Session {
	next := *s
	next.Access = access
	return &next
}
