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

// StoragePrefix is where sessions lie. They hold bearer tokens: the prefix belongs among the
// seal-wrapped paths.
const StoragePrefix = "sessions/"

// refreshMargin is how long before its end an access token is replaced; KSeF's live for 15 minutes.
const refreshMargin = 90 * time.Second

// learnTimeout bounds what is asked besides a login, which does not depend on it.
const learnTimeout = 5 * time.Second

// ErrEnded is the answer of a manager whose configuration has gone.
var ErrEnded = errors.New("the configuration has changed meanwhile; ask again")

// Signer makes the signed document of a login.
type Signer interface {
	// SignLogin returns the AuthTokenRequest for the challenge and context, signed as of the given
	// time.
	SignLogin(challenge *client.Challenge, taxpayer client.ContextIdentifier, signingTime time.Time) ([]byte, error)
}

// Session is a login that lives.
type Session struct {
	// ReferenceNumber is KSeF's number of the login.
	ReferenceNumber string
	Context         client.ContextIdentifier
	Access          client.Bearer
	Refresh         client.Bearer
	Since           time.Time
	// API identifies the KSeF that has opened it.
	API string
	// Subject is who has signed the login, as KSeF knows him; "" where the signature does not tell.
	Subject string
	// External says that a person has signed the login outside of Vault: it cannot be repeated
	// without him.
	External bool
	// AllowedIPs are the addresses that the login of a person was signed for, as config had them.
	AllowedIPs []string

	// seenFrom is the address from which KSeF has seen the login begin; "" where it is not known.
	seenFrom string
	// replaced says that the access token stands for one that KSeF refused.
	replaced bool
	// renewal is the login or refresh that gave the access token; nil for one that came from
	// storage or from an external login.
	renewal *renewal
	// key is where the session was read from; "" for one in memory alone.
	key string
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

// Access returns an access token for the context that is valid now, logging in or refreshing where
// needed. A failure is remembered for a while: those who have waited for it share it, and a login
// that KSeF refuses is not repeated with each request.
func (m *Manager) Access(ctx context.Context, taxpayer client.ContextIdentifier) (client.Secret, error) {
	session, err := m.usable(ctx, taxpayer)
	if err != nil {
		return "", err
	}
	return session.Access.Token, nil
}

// usable is Access with the session that the access token belongs to.
func (m *Manager) usable(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	session, err := m.access(ctx, taxpayer)
	if successor := m.successor(err); successor != nil {
		return successor.usable(ctx, taxpayer)
	}
	return session, err
}

func (m *Manager) access(ctx context.Context, taxpayer client.ContextIdentifier) (*Session, error) {
	if m.ended.Load() {
		return nil, ErrEnded
	}
	s := m.entry(taxpayer)
	if session := s.get(); session.fresh() {
		return session, nil
	}
	return m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		if session := s.get(); session.fresh() {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		return m.renew(ctx, s, taxpayer)
	})
}

// Replace returns a session with another access token after KSeF has refused that of the given one
// with a 401: a refreshed one, and where that is refused too, that of a new login.
func (m *Manager) Replace(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session) (*Session, error) {
	session, err := m.replace(ctx, taxpayer, refused)
	if successor := m.successor(err); successor != nil {
		return successor.Replace(ctx, taxpayer, refused)
	}
	return session, err
}

func (m *Manager) replace(ctx context.Context, taxpayer client.ContextIdentifier, refused *Session) (*Session, error) {
	return m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		session := s.get()
		if session.fresh() && !session.hasAccessOf(refused) {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		if session != nil && session.replaced {
			return m.loginAgain(ctx, s, taxpayer)
		}
		renewed, err := m.renew(ctx, s, taxpayer)
		if err == nil {
			s.markReplaced()
		}
		return renewed, err
	})
}

// Verify proves that the session can be used: by a refresh, or by a login where there is none.
func (m *Manager) Verify(ctx context.Context, taxpayer client.ContextIdentifier) error {
	_, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) { return m.renew(ctx, s, taxpayer) })
	return err
}

// Login makes a new login, whatever there is, and keeps it in memory. It writes nothing: Save does,
// once the configuration has been stored.
func (m *Manager) Login(ctx context.Context, taxpayer client.ContextIdentifier) error {
	_, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) { return m.login(ctx, s, taxpayer) })
	return err
}

// Prove makes sure that the manager's own signer can log in, whoever else has: by a login, or by a
// refresh of one that it has stored before. It stores the login at once, so that none is made twice
// and none is left behind.
func (m *Manager) Prove(ctx context.Context, taxpayer client.ContextIdentifier) error {
	_, err := m.withEntry(ctx, taxpayer, func(s *entry) (*Session, error) {
		own, err := load(ctx, m.Storage, m.ConfigFingerprint, taxpayer)
		if err != nil {
			return nil, err
		}
		if own != nil {
			s.set(own)
			return m.renew(ctx, s, taxpayer)
		}
		session, err := m.login(ctx, s, taxpayer)
		if err != nil {
			return nil, err
		}
		return session, m.store(ctx, m.ConfigFingerprint, session)
	})
	return err
}

// Save stores the context's session, unless a person has signed it: then it has been stored, and
// may have been replaced since.
func (m *Manager) Save(ctx context.Context, taxpayer client.ContextIdentifier) error {
	session := m.entry(taxpayer).get()
	if session == nil || session.External {
		return nil
	}
	return m.store(ctx, m.ConfigFingerprint, session)
}

// Auth is KSeF for the requests of logins.
func (m *Manager) Auth() *client.Client { return m.auth }

// Sessions returns what is in memory, without secrets that print.
func (m *Manager) Sessions() []Session {
	var sessions []Session
	for _, s := range m.entries() {
		if session := s.get(); session != nil {
			sessions = append(sessions, *session)
		}
	}
	return sessions
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

// loginAgain logs in and stores the session. Where only a person can do that, he may have brought a
// login past this manager.
func (m *Manager) loginAgain(ctx context.Context, s *entry, taxpayer client.ContextIdentifier) (*Session, error) {
	newer, err := m.newerExternal(ctx, s, taxpayer)
	if err != nil {
		s.fail(ctx, err)
		return nil, err
	}
	if refreshed, err := m.refresh(ctx, s, newer); !errors.Is(err, errOver) {
		return refreshed, err
	}
	before := s.get()
	session, err := m.login(ctx, s, taxpayer)
	if err != nil {
		s.fail(ctx, err)
		return nil, err
	}
	if m.ended.Load() {
		return nil, errors.Join(ErrEnded, m.Discard(ctx, session))
	}
	if before != nil && !before.External {
		m.retire(ctx, s, before)
	}
	if err := m.store(ctx, m.ConfigFingerprint, session); err != nil {
		// The login holds in memory; losing it costs one more login later.
		m.Logger.Warn("the KSeF session could not be stored", "context", taxpayer, "error", err)
	}
	return session, nil
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

func (m *Manager) entries() []*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.contexts))
}
