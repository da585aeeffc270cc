// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package session keeps one live KSeF login per context: it logs in when there is none, refreshes
// it ahead of its end, stores it so that a restart or a failover does not log in again, and ends it
// when its configuration goes.
package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// ErrEnded is the answer of a manager whose configuration has gone.
var ErrEnded = errors.New("the configuration has changed meanwhile; ask again")

// Signer makes the signed document of a login.
type Signer interface {
	// SignLogin returns the AuthTokenRequest for the challenge and context, signed as of the given
	// time.
	SignLogin(challenge *client.Challenge, taxpayer client.ContextIdentifier, signingTime time.Time) ([]byte, error)
}

// Options are what a Manager works with.
type Options struct {
	Client *client.Client
	// API identifies the KSeF that Client leads to; sessions of another are neither used nor ended
	// here. "" takes the client's address.
	API string
	// Limiter admits the manager's own requests. The zero context is that of logins, which KSeF
	// counts per address. nil admits all.
	Limiter func(client.ContextIdentifier) client.Limiter
	// Signer is nil where the configuration has no credential: then there are only the logins that
	// a person has signed.
	Signer  Signer
	Storage logical.Storage
	// ConfigFingerprint tells apart logins made under different configurations: a stored session
	// with another identity is not used.
	ConfigFingerprint string
	// ExternalFingerprint is the identity of logins signed outside of Vault, which every
	// configuration of the same API may use. It differs from Identity.
	ExternalFingerprint string
	// AllowedIPs are the addresses that the manager's own logins are bound to, as config has them;
	// they are for the texts of errors.
	AllowedIPs []string
	// Subject identifies who signs, as KSeF knows him.
	Subject string
	// Undecided returns an error that tells of a login in a context that a person has signed and
	// KSeF has not decided, nil where there is none; nil is allowed.
	Undecided func(context.Context, client.ContextIdentifier) error
	// OnLogin is called after each new login and each that failed; nil is allowed.
	OnLogin func(client.ContextIdentifier, error)
	// Learn is called with the access token of each new login, to ask KSeF what holds for it; nil
	// is allowed.
	Learn  func(ctx context.Context, taxpayer client.ContextIdentifier, access client.Secret)
	Logger hclog.Logger
}

// Manager keeps the sessions of one configuration. It is safe for concurrent use and has no
// goroutine of its own.
type Manager struct {
	Options
	auth       *client.Client
	ended      atomic.Bool
	replacedBy atomic.Pointer[Manager]

	mu       sync.Mutex
	contexts map[client.ContextIdentifier]*entry
}

// NewManager returns a manager without any session in memory.
func NewManager(options Options) *Manager {
	manager := &Manager{Options: options, auth: options.Client, contexts: make(map[client.ContextIdentifier]*entry)}
	if options.Limiter != nil {
		manager.auth = options.Client.WithLimiter(options.Limiter(client.ContextIdentifier{}))
	}
	if manager.API == "" {
		manager.API = options.Client.URL()
	}
	if manager.OnLogin == nil {
		manager.OnLogin = func(client.ContextIdentifier, error) {}
	}
	if manager.Learn == nil {
		manager.Learn = func(context.Context, client.ContextIdentifier, client.Secret) {}
	}
	if manager.Logger == nil {
		manager.Logger = hclog.NewNullLogger()
	}
	return manager
}

// Auth is KSeF for the requests of logins.
func (m *Manager) Auth() *client.Client { return m.auth }

// ReplaceWith ends the manager without ending its sessions: requests in progress go on under those
// of its successor, which are of the same subject.
func (m *Manager) ReplaceWith(successor *Manager) {
	m.replacedBy.Store(successor)
	m.ended.Store(true)
}

// successor is who has taken over where this manager has failed and has ended meanwhile; nil for
// nobody.
func (m *Manager) successor(err error) *Manager {
	if err == nil || !m.ended.Load() {
		return nil
	}
	return m.replacedBy.Load()
}

// withEntry does something about a context's session while nobody else does, what storage knows of
// it being loaded.
func (m *Manager) withEntry(ctx context.Context, taxpayer client.ContextIdentifier, do func(*entry) (*Session, error)) (*Session, error) {
	s := m.entry(taxpayer)
	if err := s.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the KSeF login: %w", err)
	}
	defer s.lock.Release(1)
	if m.ended.Load() {
		return nil, ErrEnded
	}
	if err := m.load(ctx, s, taxpayer); err != nil {
		return nil, err
	}
	out, err := do(s)
	if err == nil {
		m.endUnstored(ctx, s)
	}
	return out, err
}

// load reads the stored session once per process and context.
func (m *Manager) load(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) error {
	if s.isLoaded() {
		return nil
	}
	session, err := m.stored(ctx, taxpayer)
	if err != nil {
		return err
	}
	if err := m.loadUnstored(ctx, s, taxpayer); err != nil {
		m.Logger.Warn("sessions that nobody uses may stay open in KSeF for 7 days", "context", taxpayer, "error", err)
	}
	s.finishLoad(session)
	return nil
}

func (m *Manager) entry(taxpayer client.ContextIdentifier) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.contexts[taxpayer]
	if s == nil {
		s = &entry{lock: semaphore.NewWeighted(1)}
		m.contexts[taxpayer] = s
	}
	s.used = time.Now()
	return s
}

// existingEntry is nil for a context that has none, and makes none.
func (m *Manager) existingEntry(taxpayer client.ContextIdentifier) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contexts[taxpayer]
}

func (m *Manager) entries() []*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.contexts))
}

// Forget drops what is in memory for a context, so that the next use reads storage: another node
// has changed it.
func (m *Manager) Forget(in string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for candidate := range m.contexts {
		if candidate.String() == in {
			delete(m.contexts, candidate)
		}
	}
}

// idleAfter is how long a context without a session stays in memory after its last use.
const idleAfter = time.Hour

// DropIdle takes contexts out of memory that have no session and that nobody has used for an hour.
// Storage keeps what it has of them.
func (m *Manager) DropIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for taxpayer, s := range m.contexts {
		if time.Since(s.used) < idleAfter || s.isAlive() || !s.lock.TryAcquire(1) {
			continue
		}
		delete(m.contexts, taxpayer)
		s.lock.Release(1)
	}
}
