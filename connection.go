// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/failure"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rights"
	"vault-plugin-secrets-ksef/internal/session"

	"golang.org/x/sync/semaphore"
)

// errNotConfigured is the answer of every path that needs KSeF.
var errNotConfigured = &client.InputError{
	Field: "config", Fault: "has not been written yet",
	Remedy: "vault write <mount>/config environment=... nip=..., with certificate=@... private_key=@... or, for a login that a person signs, without",
}

// authMaxWait is how long a request of a login waits for KSeF's limits.
const authMaxWait = 20 * time.Second

// connection is a configuration with the client, the sessions and the signer's rights that depend
// on it.
type connection struct {
	config   *config
	client   *client.Client
	sessions *session.Manager
	rights   *rights.Signer
}

// connections has the connection in force. Its lock is for building or replacing it.
type connections struct {
	lock *semaphore.Weighted

	mu      sync.Mutex
	current *connection
}

func (c *connections) get() *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// replace puts a connection in force, nil for none, and closes the one before.
func (c *connections) replace(next *connection) {
	c.mu.Lock()
	previous := c.current
	c.current = next
	c.mu.Unlock()
	if previous != nil && previous != next {
		previous.client.Close()
	}
}

// dropIdle drops taxpayers from memory that are not used.
func (c *connections) dropIdle() {
	if current := c.get(); current != nil {
		current.sessions.DropIdle()
	}
}

func (c *connections) forget(in string) {
	if current := c.get(); current != nil {
		current.sessions.Forget(in)
	}
}

// connect returns the connection in force, reading the configuration at the first use. It fails
// with errNotConfigured where there is none.
func (b *backend) connect(ctx context.Context) (*connection, error) {
	if current := b.connection.get(); current != nil {
		return current, nil
	}
	if err := b.connection.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for the configuration: %w", err)
	}
	defer b.connection.lock.Release(1)
	return b.connectLocked(ctx)
}

// connectLocked is connect for callers that have the lock.
func (b *backend) connectLocked(ctx context.Context) (*connection, error) {
	if current := b.connection.get(); current != nil {
		return current, nil
	}
	stored, err := readConfig(ctx, b.storage)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, errNotConfigured
	}
	built, err := b.build(stored)
	if err != nil {
		return nil, fmt.Errorf("the stored configuration cannot be used: %w", err)
	}
	b.connection.replace(built)
	return built, nil
}

// build returns the connection of a configuration. It sends and stores nothing.
func (b *backend) build(c *config) (*connection, error) {
	signer, subject, err := c.signer()
	if err != nil {
		return nil, err
	}
	api, err := client.New(client.Config{
		URL: c.URL, CACertificate: c.CACertificate, RequestTimeout: c.RequestTimeout,
		UserAgent: b.userAgent, OnWarning: b.report.Warning, Transport: b.transport,
	})
	if err != nil {
		return nil, err
	}
	built := &connection{config: c, client: api}
	built.sessions = session.NewManager(session.Options{
		Client: api,
		Limiter: func(taxpayer client.ContextIdentifier) client.Limiter {
			return b.limiters.For(c.URL, taxpayer, ratelimit.Wait{AtMost: authMaxWait})
		},
		Begin:               session.BySignature(signer),
		Storage:             b.storage,
		ConfigFingerprint:   c.fingerprint(),
		API:                 c.api(),
		ExternalFingerprint: "outside " + c.api(),
		Subject:             subject,
		OnLogin:             func(taxpayer client.ContextIdentifier, err error) { b.reportLogin(built, taxpayer, err) },
		Undecided:           b.undecidedLogin,
		Learn: func(ctx context.Context, taxpayer client.ContextIdentifier, access client.Secret) {
			b.learnLimits(ctx, api, taxpayer, access)
		},
		Logger: b.Logger().Named("session"),

		AllowedIPs: c.AllowedIPs,
	})
	built.rights = rights.NewSigner(built.sessions, func(taxpayer client.ContextIdentifier) *client.Client {
		return api.WithLimiter(b.limiters.For(c.URL, taxpayer, ratelimit.Wait{AtMost: rights.MaxWait}))
	})
	return built, nil
}

func (b *backend) reportLogin(used *connection, taxpayer client.ContextIdentifier, err error) {
	if b.connection.get() == used {
		b.report.Login(taxpayer, err)
	} else {
		b.report.UnstoredLogin(taxpayer, err)
	}
}

// fingerprint changes with what a session depends on: the API, the certificate, and the addresses
// to which it is bound.
func (c *config) fingerprint() string {
	sum := sha256.Sum256([]byte(c.api() + "\n" + c.SubjectIdentifierType + "\n" + c.Certificate + c.allowedIPsFingerprint()))
	return hex.EncodeToString(sum[:])
}

// signer returns what signs logins, and its subject; nil and "" for external logins.
func (c *config) signer() (signer session.Signer, subject string, err error) {
	cred, err := c.credential()
	if err != nil || cred == nil {
		return nil, "", err
	}
	signer, err = session.NewSigner(cred.Certificate, cred.Key, c.SubjectIdentifierType, session.ToConfig(c.AllowedIPs))
	return signer, cred.Identity.Subject(), err
}

// subject returns who is logged in for the taxpayer, or would be; "" for unknown.
func (c *connection) subject(ctx context.Context, taxpayer client.ContextIdentifier) (string, error) {
	known, err := c.sessions.Known(ctx, taxpayer)
	if err != nil {
		return "", err
	}
	return c.sessions.SubjectOf(known), nil
}

// keepLogin keeps the session of an external login.
func (b *backend) keepLogin(ctx context.Context, login *session.Session) error {
	connected, err := b.connect(ctx)
	if err != nil {
		return err
	}
	if api := connected.config.api(); api != login.API {
		return fmt.Errorf("%w: the login is at %s, config at %s", failure.ErrOtherAPI, login.API, api)
	}
	if err := b.guardLogin(ctx, connected, login.Context, login.Subject); err != nil {
		return err
	}
	defer b.ledger.Retry()
	return connected.sessions.Keep(ctx, login)
}

// connectTo returns the connection in force if it leads to the API of a token.
func (b *backend) connectTo(ctx context.Context, api string) (*connection, error) {
	current, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	if api != current.config.URL {
		return nil, fmt.Errorf("%w: the token is at %s, config at %s", failure.ErrOtherAPI, api, current.config.URL)
	}
	return current, nil
}

// openUpstream returns KSeF for the ledger's target.
func (b *backend) openUpstream(ctx context.Context, target ledger.Target, wait ratelimit.Wait) (ledger.Upstream, error) {
	current, err := b.connectTo(ctx, target.API)
	if err != nil {
		return nil, err
	}
	return current.upstream(b, target.Context, wait), nil
}

// openItself returns KSeF by a login with a KSeF token, which may read and revoke itself whatever
// its permissions are.
func (b *backend) openItself(ctx context.Context, target ledger.Target, token client.Secret, wait ratelimit.Wait) (ledger.Upstream, error) {
	current, err := b.connectTo(ctx, target.API)
	if err != nil {
		return nil, err
	}
	access, err := current.logInOnce(ctx, b.Logger(), target.Context, token)
	if err != nil {
		return nil, err
	}
	return itself{current.client.WithTokenSource(access).WithLimiter(b.limiters.For(current.config.URL, target.Context, wait))}, nil
}

// itself is KSeF as a KSeF token sees it.
type itself struct{ *client.Client }

// Ready implements ledger.Upstream: the login has been made.
func (itself) Ready(context.Context) error { return nil }

// Subject implements ledger.Upstream. No record is made under such a login.
func (itself) Subject() string { return "" }

// probe asks KSeF for a challenge, which no hourly limit counts.
func (b *backend) probe(ctx context.Context, api string) error {
	current, err := b.connectTo(ctx, api)
	if err != nil {
		return err
	}
	_, err = current.sessions.Auth().Challenge(ctx)
	return err
}

// upstream is KSeF for one taxpayer: the client with the taxpayer's access tokens and limits.
type upstream struct {
	*client.Client
	*session.TokenSource
}

// upstream returns KSeF for the taxpayer, each request waiting for the limits as wait says.
func (c *connection) upstream(b *backend, taxpayer client.ContextIdentifier, wait ratelimit.Wait) upstream {
	tokens := c.sessions.TokenSource(taxpayer)
	return upstream{c.client.WithTokenSource(tokens).WithLimiter(b.limiters.For(c.config.URL, taxpayer, wait)), tokens}
}

// nextPermit returns when a request with so many others before it could go.
func (b *backend) nextPermit(target ledger.Target, endpoint string, ahead int) time.Time {
	return b.limiters.NextPermit(target.API, target.Context, endpoint, ahead)
}

// dropIdleLimits closes the limiters that have not been used for an hour, except that of config.
func (b *backend) dropIdleLimits(ctx context.Context) {
	dropped, err := b.limiters.DropIdle(ctx)
	if dropped {
		stored, readErr := readConfig(ctx, b.storage)
		if readErr == nil && stored != nil {
			readErr = b.limiters.OpenOwn(ctx, stored.URL, stored.Context)
		}
		err = errors.Join(err, readErr)
	}
	if err != nil {
		b.Logger().Warn("the idle state of KSeF's request limits could not be dropped; the next minute tries again", "error", err)
	}
}

// learnLimits asks KSeF once per login for the limits of the taxpayer and of this address. Without
// an answer those that are known hold.
func (b *backend) learnLimits(ctx context.Context, api *client.Client, taxpayer client.ContextIdentifier, access client.Secret) {
	limiter := b.limiters.For(api.URL(), taxpayer, ratelimit.Wait{AtMost: authMaxWait})
	limits, err := api.WithTokenSource(access).WithLimiter(limiter).RateLimits(ctx)
	if err == nil {
		err = b.limiters.SetLimits(ctx, api.URL(), taxpayer, limits)
	}
	if err != nil {
		b.Logger().Warn("KSeF's request limits could not be learned, or not be stored; those that this process knows hold", "context", taxpayer.String(), "error", err)
	}
}
