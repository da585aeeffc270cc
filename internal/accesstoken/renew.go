// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/session"
)

// loginAhead is how long before its end a session is replaced, so that no read waits for a login.
const loginAhead = 10 * time.Minute

// renewalTimeout bounds a renewal, which may have to make what it logs in with.
const renewalTimeout = 2 * time.Minute

// renew begins a renewal for a reader, or returns the one in progress.
func (t *Tokens) renew(e *entry) *work {
	w, begun := e.beginRenewal()
	if begun && !t.spawn(func() { t.runRenewal(e, false) }) {
		e.endRenewal(ErrStopped)
	}
	return w
}

// renewAhead begins a renewal for which no reader waits, unless one is in progress. The caller has
// taken a worker for it.
func (t *Tokens) renewAhead(e *entry) {
	_, begun := e.beginRenewal()
	if begun && t.spawn(func() { t.runRenewal(e, true); t.workers.Release(1); t.loop.Wake() }) {
		return
	}
	t.workers.Release(1)
	if begun {
		e.endRenewal(ErrStopped)
	}
}

// runRenewal releases the readers before it ends what the new session replaces.
func (t *Tokens) runRenewal(e *entry, ahead bool) {
	ctx, cancel := context.WithTimeout(t.ctx, renewalTimeout)
	defer cancel()
	if err := e.lock.Acquire(ctx, 1); err != nil {
		e.endRenewal(err)
		return
	}
	defer e.lock.Release(1)
	err := t.contain(func() error { return t.refreshOrEnd(ctx, e, ahead) })
	if err != nil && e.fail(err) && ctx.Err() == nil {
		t.options.Logger.Warn("an access token could not be refreshed; it is tried again", "role", e.key.Role, "context", e.key.Taxpayer, "error", err)
	}
	e.endRenewal(err)
	t.loop.Wake()
	if err == nil {
		t.supersede(ctx, e)
	}
}

// refreshOrEnd renews the access token, or ends the session of a key that is no longer read or has
// no role any more.
func (t *Tokens) refreshOrEnd(ctx context.Context, e *entry, ahead bool) error {
	switch {
	case e.isForgotten():
		return nil // the reader asks for the key's new entry
	case e.isUnread():
		// First: once the session has ended, nothing leads back to the key.
		since, _ := e.reads()
		if err := t.options.OnUnread(ctx, e.key, since); err != nil {
			return err
		}
		if err := t.end(ctx, e); err != nil {
			t.options.Logger.Warn("the session of an access token that is no longer read could not be ended yet", "role", e.key.Role, "context", e.key.Taxpayer, "error", err)
		}
		return nil
	}
	changes := e.changesNow()
	err := t.withLogin(ctx, e, func(login Login) error { return t.refreshBy(ctx, e, login, changes, ahead) })
	if errors.As(err, new(*GoneError)) {
		err = errors.Join(err, t.end(ctx, e))
	}
	return err
}

// withLogin calls do with how the key logs in. After a refusal it asks once more: since OnLogin was
// called, what stands behind the login may have been replaced.
func (t *Tokens) withLogin(ctx context.Context, e *entry, do func(Login) error) error {
	login, err := t.options.Login(ctx, e.key)
	if err != nil {
		return err
	}
	err = do(login)
	if !errors.As(err, new(*client.LoginError)) {
		return err
	}
	next, failed := t.options.Login(ctx, e.key)
	switch {
	case failed != nil:
		return failed
	case next.fingerprint() == login.fingerprint():
		return err
	}
	return do(next)
}

// refreshBy renews the access token where that is due, or not of the login.
func (t *Tokens) refreshBy(ctx context.Context, e *entry, login Login, changes int, ahead bool) error {
	moves := e.sessions != nil && e.fingerprint != login.fingerprint()
	if err := t.use(ctx, e, login); err != nil {
		return err
	}
	if !moves && e.confirm(changes) {
		return nil
	}
	if moves && ahead && !t.awaitLogin(ctx) {
		return ErrStopped
	}
	renewed, err := t.refresh(ctx, e)
	if err != nil {
		return err
	}
	e.succeed(newFetched(renewed), changes)
	return nil
}

// refresh gets an access token under the key's session, or a new one.
func (t *Tokens) refresh(ctx context.Context, e *entry) (*session.Session, error) {
	renewed, err := e.sessions.Renew(ctx, e.key.Taxpayer)
	if err != nil || time.Until(renewed.Refresh.ValidUntil) > loginAhead {
		return renewed, err
	}
	next, err := e.sessions.LoginAgain(ctx, e.key.Taxpayer)
	if err != nil {
		t.options.Logger.Warn("a session that ends soon could not be replaced yet", "role", e.key.Role, "context", e.key.Taxpayer, "error", err)
		return renewed, nil
	}
	return next, nil
}

// loginAnew replaces the session, whatever its state.
func (t *Tokens) loginAnew(ctx context.Context, e *entry) error {
	e.setRead(time.Now())
	changes := e.changesNow()
	return t.withLogin(ctx, e, func(login Login) error {
		if err := t.use(ctx, e, login); err != nil {
			return err
		}
		next, err := e.sessions.LoginAgain(ctx, e.key.Taxpayer)
		if err != nil {
			return err
		}
		e.succeed(newFetched(next), changes)
		t.supersede(ctx, e)
		t.loop.Wake()
		return nil
	})
}

func newFetched(from *session.Session) *fetched {
	return &fetched{access: from.Access.Token, number: from.ReferenceNumber, fetchedAt: time.Now(), validUntil: from.Access.ValidUntil}
}

// awaitLogin keeps the logins of the background work loginPause apart. It returns false where ctx
// ends first.
func (t *Tokens) awaitLogin(ctx context.Context) bool {
	t.mu.Lock()
	at := time.Now()
	if t.nextLogin.After(at) {
		at = t.nextLogin
	}
	t.nextLogin = at.Add(loginPause)
	t.mu.Unlock()
	return background.Sleep(ctx, time.Until(at))
}

// fingerprint tells logins apart, those of different KSeFs included.
func (l *Login) fingerprint() string { return l.API + "\n" + l.Fingerprint }

// use prepares the key's sessions for the login, and records the key before its first session is
// made, so that no session is without a record.
func (t *Tokens) use(ctx context.Context, e *entry, login Login) error {
	if err := t.record(ctx, e); err != nil {
		return err
	}
	fingerprint := login.fingerprint()
	if e.sessions != nil && e.client == login.Client && e.fingerprint == fingerprint {
		return nil
	}
	e.sessions, e.client, e.fingerprint, e.superseded = t.manager(e.key, login), login.Client, fingerprint, false
	return nil
}

// manager returns the sessions of the key, all of which lie below a prefix of their own.
func (t *Tokens) manager(key Key, login Login) *session.Manager {
	return session.NewManager(session.Options{
		Client: login.Client, API: login.API, Limiter: login.Limiter, Begin: login.Begin, Subject: login.Subject,
		Storage: t.options.Storage, Prefix: session.AccessPrefix + key.path() + "/", UnstoredPrefix: session.UnstoredAccessPrefix + key.folder(),
		ConfigFingerprint: login.fingerprint(), HandedOut: true,
		OnLogin: func(_ client.ContextIdentifier, err error) { t.options.OnLogin(key, err) },
		Learn:   login.Learn,
		Logger:  t.options.Logger,
	})
}

// supersede ends the sessions that were made in another way, now that there is one.
func (t *Tokens) supersede(ctx context.Context, e *entry) {
	if e.superseded || e.sessions == nil {
		return
	}
	err := t.contain(func() error { return e.sessions.Supersede(ctx) })
	if err != nil {
		t.options.Logger.Warn("the session before could not be ended yet", "role", e.key.Role, "context", e.key.Taxpayer, "error", err)
	}
	e.superseded = err == nil
}
