// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package session keeps one live KSeF login per context: it logs in when there
// is none, refreshes it ahead of its end, stores it so that a restart or a
// failover does not log in again, and ends it when its configuration goes.
package session

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/turn"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
)

// StoragePrefix is where sessions lie. They hold bearer tokens: the prefix
// belongs among the seal-wrapped paths.
const StoragePrefix = "sessions/"

// refreshMargin is how long before its end an access token is replaced; KSeF's
// live for 15 minutes.
const refreshMargin = 90 * time.Second

// learnTimeout bounds what is asked besides a login, which does not depend on it.
const learnTimeout = 5 * time.Second

// ErrEnded is the answer of a manager whose configuration has gone.
var ErrEnded = errors.New("the configuration has changed meanwhile; ask again")

// Signer makes the signed document of a login.
type Signer interface {
	// SignLogin returns the AuthTokenRequest for the challenge and context,
	// signed as of the given time.
	SignLogin(challenge *client.Challenge, in client.Context, signingTime time.Time) ([]byte, error)
}

// Session is a login that lives.
type Session struct {
	// ReferenceNumber is KSeF's number of the login.
	ReferenceNumber string
	Context         client.Context
	Access          client.Bearer
	Refresh         client.Bearer
	Since           time.Time
	// API identifies the KSeF that has opened it.
	API string
	// Author is who has signed the login, as KSeF knows him; "" where the
	// signature does not tell.
	Author string
	// Outside says that a person has signed the login outside of Vault: it
	// cannot be repeated without him.
	Outside bool
	// AllowedIPs are the addresses that the login of a person was signed for, as config had them.
	AllowedIPs []string

	// seenFrom is the address from which KSeF has seen the login begin; "" where it is not known.
	seenFrom string
	// replaced says that the access token stands for one that KSeF refused.
	replaced bool
	// renewal is the login or refresh that gave the access token; nil for one that came from storage
	// or from an external login.
	renewal *renewal
	// key is where the session was read from; "" for one in memory alone.
	key string
}

// Options are what a Manager works with.
type Options struct {
	Client *client.Client
	// API identifies the KSeF that Client leads to; sessions of another are neither used nor
	// ended here. "" takes the client's address.
	API string
	// Gate admits the manager's own requests. The zero context is that of
	// logins, which KSeF counts per address. nil admits all.
	Gate func(client.Context) client.Gate
	// Signer is nil where the configuration has no credential: then there are
	// only the logins that a person has signed.
	Signer  Signer
	Storage logical.Storage
	// Identity tells apart logins made under different configurations: a
	// stored session with another identity is not used.
	Identity string
	// Outside is the identity of logins signed outside of Vault, which every
	// configuration of the same API may use. It differs from Identity.
	Outside string
	// AllowedIPs are the addresses that the manager's own logins are bound to, as config has them;
	// they are for the texts of errors.
	AllowedIPs []string
	// Author identifies who signs, as KSeF knows him.
	Author string
	// Undecided returns an error that tells of a login in a context that a person has signed and
	// KSeF has not decided, nil where there is none; nil is allowed.
	Undecided func(context.Context, client.Context) error
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
	auth  *client.Client
	ended atomic.Bool
	heir  atomic.Pointer[Manager]

	mu       sync.Mutex
	contexts map[client.Context]*slot
}

// NewManager returns a manager without any session in memory.
func NewManager(options Options) *Manager {
	manager := &Manager{Options: options, auth: options.Client, contexts: make(map[client.Context]*slot)}
	if options.Gate != nil {
		manager.auth = options.Client.Through(options.Gate(client.Context{}))
	}
	if manager.API == "" {
		manager.API = options.Client.URL()
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
// or refreshing where needed. A failure is remembered for a while: those who
// have waited for it share it, and a login that KSeF refuses is not repeated
// with each request.
func (m *Manager) Access(ctx context.Context, in client.Context) (client.Secret, error) {
	session, err := m.usable(ctx, in)
	if err != nil {
		return "", err
	}
	return session.Access.Token, nil
}

// usable is Access with the session that the access token belongs to.
func (m *Manager) usable(ctx context.Context, in client.Context) (*Session, error) {
	session, err := m.access(ctx, in)
	if heir := m.heirAfter(err); heir != nil {
		return heir.usable(ctx, in)
	}
	return session, err
}

func (m *Manager) access(ctx context.Context, in client.Context) (*Session, error) {
	if m.ended.Load() {
		return nil, ErrEnded
	}
	s := m.slot(in)
	if session := s.get(); session.fresh() {
		return session, nil
	}
	return m.inTurn(ctx, in, func(s *slot) (*Session, error) {
		if session := s.get(); session.fresh() {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		return m.renew(ctx, s, in)
	})
}

// Replace returns a session with another access token after KSeF has refused
// that of the given one with a 401: a refreshed one, and where that is refused
// too, that of a new login.
func (m *Manager) Replace(ctx context.Context, in client.Context, refused *Session) (*Session, error) {
	session, err := m.replace(ctx, in, refused)
	if heir := m.heirAfter(err); heir != nil {
		return heir.Replace(ctx, in, refused)
	}
	return session, err
}

func (m *Manager) replace(ctx context.Context, in client.Context, refused *Session) (*Session, error) {
	return m.inTurn(ctx, in, func(s *slot) (*Session, error) {
		session := s.get()
		if session.fresh() && !session.hasAccessOf(refused) {
			return session, nil
		}
		if err := s.recentFailure(); err != nil {
			return nil, err
		}
		if session != nil && session.replaced {
			return m.loginAgain(ctx, s, in)
		}
		renewed, err := m.renew(ctx, s, in)
		if err == nil {
			s.markReplaced()
		}
		return renewed, err
	})
}

// Verify proves that the session can be used: by a refresh, or by a login where
// there is none.
func (m *Manager) Verify(ctx context.Context, in client.Context) error {
	_, err := m.inTurn(ctx, in, func(s *slot) (*Session, error) { return m.renew(ctx, s, in) })
	return err
}

// Login makes a new login, whatever there is, and keeps it in memory. It
// writes nothing: Save does, once the configuration has been stored.
func (m *Manager) Login(ctx context.Context, in client.Context) error {
	_, err := m.inTurn(ctx, in, func(s *slot) (*Session, error) { return m.login(ctx, s, in) })
	return err
}

// Prove makes sure that the manager's own signer can log in, whoever else has: by
// a login, or by a refresh of one that it has stored before. It stores the login
// at once, so that none is made twice and none is left behind.
func (m *Manager) Prove(ctx context.Context, in client.Context) error {
	_, err := m.inTurn(ctx, in, func(s *slot) (*Session, error) {
		own, err := load(ctx, m.Storage, m.Identity, in)
		if err != nil {
			return nil, err
		}
		if own != nil {
			s.set(own)
			return m.renew(ctx, s, in)
		}
		session, err := m.login(ctx, s, in)
		if err != nil {
			return nil, err
		}
		return session, m.store(ctx, m.Identity, session)
	})
	return err
}

// Save stores the context's session, unless a person has signed it: then it has
// been stored, and may have been replaced since.
func (m *Manager) Save(ctx context.Context, in client.Context) error {
	session := m.slot(in).get()
	if session == nil || session.Outside {
		return nil
	}
	return m.store(ctx, m.Identity, session)
}

// Auth is KSeF for the requests of logins.
func (m *Manager) Auth() *client.Client { return m.auth }

// Sessions returns what is in memory, without secrets that print.
func (m *Manager) Sessions() []Session {
	var sessions []Session
	for _, s := range m.slots() {
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

// inTurn does something about a context's session while nobody else does, what
// storage knows of it being loaded.
func (m *Manager) inTurn(ctx context.Context, in client.Context, do func(*slot) (*Session, error)) (*Session, error) {
	s := m.slot(in)
	if err := s.turn.Take(ctx); err != nil {
		return nil, err
	}
	defer s.turn.Release()
	if m.ended.Load() {
		return nil, ErrEnded
	}
	if err := m.load(ctx, s, in); err != nil {
		return nil, err
	}
	out, err := do(s)
	if err == nil {
		m.endUnstored(ctx, s)
	}
	return out, err
}

// loginAgain logs in and stores the session. Where only a person can do that, he
// may have brought a login past this manager.
func (m *Manager) loginAgain(ctx context.Context, s *slot, in client.Context) (*Session, error) {
	brought, err := m.brought(ctx, s, in)
	if err != nil {
		s.fail(ctx, err)
		return nil, err
	}
	if refreshed, err := m.refresh(ctx, s, brought); !errors.Is(err, errOver) {
		return refreshed, err
	}
	before := s.get()
	session, err := m.login(ctx, s, in)
	if err != nil {
		s.fail(ctx, err)
		return nil, err
	}
	if m.ended.Load() {
		return nil, errors.Join(ErrEnded, m.Discard(ctx, session))
	}
	if before != nil && !before.Outside {
		m.retire(ctx, s, before)
	}
	if err := m.store(ctx, m.Identity, session); err != nil {
		// The login holds in memory; losing it costs one more login later.
		m.Logger.Warn("the KSeF session could not be stored", "context", in, "error", err)
	}
	return session, nil
}

// load reads the stored session once per process and context.
func (m *Manager) load(ctx context.Context, s *slot, in client.Context) error {
	if s.isLoaded() {
		return nil
	}
	session, err := m.stored(ctx, in)
	if err != nil {
		return err
	}
	if err := m.loadUnstored(ctx, s, in); err != nil {
		m.Logger.Warn("sessions that nobody uses may stay open in KSeF for 7 days", "context", in, "error", err)
	}
	s.finishLoad(session)
	return nil
}

func (m *Manager) slot(in client.Context) *slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.contexts[in]
	if s == nil {
		s = &slot{turn: turn.New("the KSeF login")}
		m.contexts[in] = s
	}
	s.used = time.Now()
	return s
}

func (m *Manager) slots() []*slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.contexts))
}
