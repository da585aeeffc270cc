// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package externallogin runs logins that a person signs outside of Vault, with a card or a cloud
// signature, from the request to be signed to the session. Where KSeF takes minutes to decide, the
// login continues without its caller, in any process.
package externallogin

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/credential"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/semaphore"
)

// challengeLasts is how long KSeF accepts the signature of a challenge.
const challengeLasts = 10 * time.Minute

// Upstream is the KSeF of the current configuration.
type Upstream struct {
	// API identifies it: a login can be completed only where it was begun.
	API string
	// AllowedIPs are the addresses that config binds logins to.
	AllowedIPs []string
	// Client sends the requests.
	Client *client.Client
	// Keep keeps the session of a login. session.ErrNotStored means that only memory has it; after
	// any other error nothing has it.
	Keep func(context.Context, *session.Session) error
	// Discard ends a session that was not kept.
	Discard func(context.Context, *session.Session) error
	// Lost records that the session of a login is lost, so that it is ended by its number. kept
	// reports that it was in fact the last one kept.
	Lost func(context.Context, *session.Session) (kept bool, err error)
}

// Options are the dependencies of Logins.
type Options struct {
	Storage logical.Storage
	Open    func(ctx context.Context) (*Upstream, error)
	// Admit may refuse a signer before anything is sent. The signer is nil where the signature has
	// no certificate.
	Admit func(ctx context.Context, taxpayer client.ContextIdentifier, signer *credential.Identity) error
	// OnFail is called once for each submitted login that fails.
	OnFail func(client.ContextIdentifier, error)
	// OnUnreadable is called for each record that cannot be read and is skipped.
	OnUnreadable func(entry *logical.StorageEntry, err error)
}

// Logins are the external logins of one mount. They are safe for concurrent use and start no
// goroutine.
type Logins struct {
	Options
	// lock serializes the steps of all logins.
	lock *semaphore.Weighted
	// reading serializes the parsing of signed requests.
	reading *semaphore.Weighted

	mu    sync.Mutex
	polls map[string]pollState
}

// New returns the logins in the storage. It does not read them yet.
func New(options Options) *Logins {
	return &Logins{
		Options: options, lock: semaphore.NewWeighted(1), reading: semaphore.NewWeighted(1),
		polls: make(map[string]pollState),
	}
}

// Begun is a login that waits for its signature.
type Begun struct {
	// Document is the request, to be signed without any change.
	Document   []byte
	Challenge  string
	ValidUntil time.Time
	// ClientIP is the address from which KSeF sees this Vault.
	ClientIP string
}

// Begin asks KSeF for a challenge and makes the request to be signed. subjectType is one of the
// xades package's.
func (l *Logins) Begin(ctx context.Context, taxpayer client.ContextIdentifier, subjectType string) (*Begun, error) {
	if err := l.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for another login: %w", err)
	}
	defer l.lock.Release(1)
	upstream, err := l.Open(ctx)
	if err != nil {
		return nil, err
	}
	err = l.dropIf(ctx, func(login *record) bool {
		return login.isObsolete(time.Now()) || (login.Context == taxpayer && !login.Failed.IsZero())
	})
	if err != nil {
		return nil, err
	}
	challenge, err := upstream.Client.Challenge(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking KSeF for a challenge: %w", err)
	}
	bound, err := session.BindTo(upstream.AllowedIPs, challenge)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	login := &record{
		Version: storedVersion, API: upstream.API, Context: taxpayer, SubjectType: subjectType,
		Challenge: challenge.Challenge, Began: now, ValidUntil: now.Add(challengeLasts), AllowedIPs: upstream.AllowedIPs,
	}
	document, err := xades.Request{
		Challenge: login.Challenge, Context: xades.Context{Type: string(taxpayer.Type), Value: taxpayer.Value}, SubjectIdentifierType: subjectType, AllowedIPs: bound,
	}.Document()
	if err != nil {
		return nil, fmt.Errorf("making the request that is to be signed: %w", err)
	}
	if err := l.save(ctx, login); err != nil {
		return nil, err
	}
	return &Begun{Document: document, Challenge: login.Challenge, ValidUntil: login.ValidUntil, ClientIP: challenge.ClientIP}, nil
}

// Submitted is a login that KSeF has accepted for processing.
type Submitted struct {
	Challenge, ReferenceNumber string
	Context                    client.ContextIdentifier
	// Signer is the holder of the certificate in the signature; nil where it has none.
	Signer *credential.Identity
}

// Submit checks a signed request and sends it to KSeF. After a *client.InputError nothing was sent.
func (l *Logins) Submit(ctx context.Context, document []byte) (*Submitted, error) {
	found, err := l.readDocument(ctx, document)
	if err != nil {
		return nil, err
	}
	if err := l.lock.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for another login: %w", err)
	}
	defer l.lock.Release(1)
	login, err := l.load(ctx, found.challenge)
	if err != nil {
		return nil, err
	}
	upstream, err := l.Open(ctx)
	if err != nil {
		return nil, err
	}
	if err := login.check(found, upstream, time.Now()); err != nil {
		return nil, err
	}
	submitted := &Submitted{Challenge: login.Challenge, Context: login.Context}
	if found.signer != nil {
		signer := credential.Identify(found.signer)
		submitted.Signer, login.Subject = &signer, signer.Subject()
	}
	if err := l.Admit(ctx, login.Context, submitted.Signer); err != nil {
		return nil, err
	}
	operation, err := upstream.Client.SubmitXAdES(ctx, document)
	if err != nil {
		return nil, fmt.Errorf("submitting the signed request: %w", err)
	}
	login.Submitted, login.ReferenceNumber = time.Now().UTC(), operation.ReferenceNumber
	login.Operation, login.OperationUntil = operation.Token.Token.Reveal(), operation.Token.ValidUntil
	submitted.ReferenceNumber = operation.ReferenceNumber
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	return submitted, l.save(ctx, login)
}

// readDocument parses one request at a time, since that takes several times the document's size.
func (l *Logins) readDocument(ctx context.Context, document []byte) (*signed, error) {
	if err := l.reading.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for another signed request that is being read: %w", err)
	}
	defer l.reading.Release(1)
	return read(document)
}

// check compares a signed request with what Begin returned. The record is nil if the challenge is
// unknown.
func (r *record) check(found *signed, upstream *Upstream, now time.Time) error {
	const beginAgain = "begin again with login/begin, and submit its answer signed within ten minutes"
	switch {
	case r == nil:
		return invalid("carries a challenge that this mount has not given out, or whose login is over", beginAgain)
	case r.ReferenceNumber != "":
		return invalid("was already submitted, as the login "+r.ReferenceNumber, "look at status for what became of it, or begin again with login/begin")
	case r.API != upstream.API:
		return invalid("was begun for "+r.API+", and config leads to "+upstream.API, beginAgain)
	case !slices.Equal(r.AllowedIPs, upstream.AllowedIPs):
		return invalid("was begun for other addresses than "+session.FieldAllowedIPs+" of config has now", beginAgain)
	case now.After(r.ValidUntil):
		return invalid("came too late: its challenge ended at "+r.ValidUntil.Format(time.RFC3339), beginAgain)
	case found.context != r.Context:
		return invalid("was altered: it is for the context "+found.context.String()+", and was begun for "+r.Context.String(), signAgain)
	case found.subjectType != r.SubjectType:
		return invalid("was altered: its SubjectIdentifierType is "+found.subjectType+", and was begun as "+r.SubjectType, signAgain)
	}
	bound, err := xades.ParseAllowedIPs(r.AllowedIPs)
	if err == nil && !found.allowedIPs.Equal(bound) {
		return invalid("was altered: its AuthorizationPolicy has other addresses than it was begun with", signAgain)
	}
	return err
}

// Abandon deletes all logins in progress.
func (l *Logins) Abandon(ctx context.Context) error {
	if err := l.lock.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for another login: %w", err)
	}
	defer l.lock.Release(1)
	return l.dropIf(ctx, func(*record) bool { return true })
}
