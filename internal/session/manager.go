// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package session keeps one KSeF session per taxpayer: it logs in where there is none, refreshes
// the session ahead of its end, stores it so that a restart or a failover does not log in again,
// and ends it with its configuration.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// ErrEnded is returned by a manager whose configuration is no longer in force.
var ErrEnded = errors.New("the configuration has changed; ask again")

// Options are what a Manager works with.
type Options struct {
	Client *client.Client
	// API identifies the KSeF that Client leads to: sessions of another are neither used nor ended.
	API string
	// Limiter admits the manager's own requests; the zero taxpayer stands for logins, which KSeF
	// counts per source address. nil admits all.
	Limiter func(client.ContextIdentifier) client.Limiter
	// Begin is nil where the configuration has no credential: then all logins are external.
	Begin   Begin
	Storage logical.Storage
	// Prefix is where in Storage the sessions lie, with a slash at its end; "" is StoragePrefix.
	// Supersede and End take all that is below it for the manager's own.
	Prefix string
	// UnstoredPrefix is the same for the numbers of sessions that are not stored; "" is the
	// constant UnstoredPrefix.
	UnstoredPrefix string
	// ConfigFingerprint tells the configurations of stored sessions apart: a session of another is
	// not used.
	ConfigFingerprint string
	// ExternalFingerprint stands in its place for external logins, which all configurations of the
	// same API share; "" where there are none.
	ExternalFingerprint string
	// AllowedIPs are the addresses to which config binds the manager's logins, for the texts of
	// errors.
	AllowedIPs []string
	// Subject is the subject as which Begin logs in.
	Subject string
	// HandedOut says that programs get access tokens of the sessions. They can end the sessions
	// with them, so that one that has ended is no error of End.
	HandedOut bool
	// Undecided returns an error that describes an external login that KSeF has not decided, nil
	// for none; nil is allowed.
	Undecided func(context.Context, client.ContextIdentifier) error
	// OnLogin is called after each login, with the error of one that failed.
	OnLogin func(client.ContextIdentifier, error)
	// Learn is called with the access token of each new login, to ask KSeF for its limits.
	Learn  func(ctx context.Context, taxpayer client.ContextIdentifier, access client.Secret)
	Logger hclog.Logger
}

// Manager keeps the sessions of one configuration. It is safe for concurrent use and has no
// goroutine of its own.
type Manager struct {
	Options
	auth       *client.Client
	sessions   logical.Storage // below Prefix
	numbers    logical.Storage // below UnstoredPrefix of the options
	ended      atomic.Bool
	replacedBy atomic.Pointer[Manager]

	mu       sync.Mutex
	contexts map[client.ContextIdentifier]*entry
}

// NewManager returns a manager without any session in memory.
func NewManager(options Options) *Manager {
	manager := &Manager{
		Options: options, contexts: make(map[client.ContextIdentifier]*entry),
		sessions: logical.NewStorageView(options.Storage, cmp.Or(options.Prefix, StoragePrefix)),
		numbers:  logical.NewStorageView(options.Storage, cmp.Or(options.UnstoredPrefix, UnstoredPrefix)),
	}
	manager.auth = manager.limitedClient(client.ContextIdentifier{})
	return manager
}

func (m *Manager) limitedClient(taxpayer client.ContextIdentifier) *client.Client {
	if m.Limiter == nil {
		return m.Client
	}
	return m.Client.WithLimiter(m.Limiter(taxpayer))
}

// Auth returns the client for the requests of logins.
func (m *Manager) Auth() *client.Client { return m.auth }

// ReplaceWith ends the manager without ending its sessions. Requests in progress continue under the
// sessions of the successor, which has the same subject.
func (m *Manager) ReplaceWith(successor *Manager) {
	m.replacedBy.Store(successor)
	m.ended.Store(true)
}

// orSuccessor calls do with m and, where that fails because m has been replaced, with its
// successor.
func (m *Manager) orSuccessor(do func(*Manager) (*Session, error)) (*Session, error) {
	session, err := do(m)
	if err == nil || !m.ended.Load() {
		return session, err
	}
	if successor := m.replacedBy.Load(); successor != nil {
		return successor.orSuccessor(do)
	}
	return session, err
}

// withEntry calls do with the taxpayer's entry, loaded from storage, one caller at a time. After a
// success it ends the sessions that are no longer used.
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

// load reads the stored session once per process and taxpayer.
func (m *Manager) load(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) error {
	if s.loaded {
		return nil
	}
	session, err := m.stored(ctx, taxpayer)
	if err != nil {
		return err
	}
	if err := m.loadUnstored(ctx, s, taxpayer); err != nil {
		m.Logger.Warn("sessions that are no longer used may stay open in KSeF for 7 days", "context", taxpayer, "error", err)
	}
	s.mu.Lock()
	s.current = session
	s.mu.Unlock()
	s.loaded = true
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

// existingEntry returns an empty entry where entry would keep a new one.
func (m *Manager) existingEntry(taxpayer client.ContextIdentifier) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(m.contexts[taxpayer], &entry{})
}

func (m *Manager) entries() map[client.ContextIdentifier]*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.contexts)
}

// Forget drops a taxpayer's entry from memory, so that the next use reads storage. in is the
// taxpayer as ContextOf returns it.
func (m *Manager) Forget(in string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for taxpayer := range m.contexts {
		if taxpayer.String() == in {
			delete(m.contexts, taxpayer)
		}
	}
}

// idleAfter is how long an entry without a session stays in memory after its last use.
const idleAfter = time.Hour

// DropIdle drops the entries without a session that have not been used for an hour. Storage keeps
// what it has of them.
func (m *Manager) DropIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for taxpayer, s := range m.contexts {
		if time.Since(s.used) < idleAfter || s.get().IsAlive() || !s.lock.TryAcquire(1) {
			continue
		}
		delete(m.contexts, taxpayer)
		s.lock.Release(1)
	}
}
