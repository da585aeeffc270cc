// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package accesstoken hands out KSeF's access tokens. It answers from memory, and refreshes each
// access token ahead of need as long as it is read.
package accesstoken

import (
	"context"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
)

// Key says whose access token it is: each has a session of its own.
type Key struct {
	// Role is the name of the role, of any text.
	Role string
	// Static says that Role names a static role.
	Static   bool
	Taxpayer client.ContextIdentifier
}

// KSeF is where a configuration leads.
type KSeF struct {
	// API identifies the KSeF that Client leads to: sessions of another are neither used nor ended.
	API    string
	Client *client.Client
	// Limiter is that of session.Options.
	Limiter func(client.ContextIdentifier) client.Limiter
	// Learn is that of session.Options.
	Learn func(ctx context.Context, taxpayer client.ContextIdentifier, access client.Secret)
}

// Login says how a session is made.
type Login struct {
	KSeF
	// Fingerprint tells ways of logging in apart: by other permissions, with another token or
	// certificate, from other addresses. After a change of it the session is made anew, and the one
	// before ended once the new one works. It is no secret.
	Fingerprint string
	// Begin submits a login.
	Begin session.Begin
	// Subject is as whom it logs in: a session is ended by another of the same subject, or by its
	// own token.
	Subject string
}

// Options are what Tokens work with. All are needed.
type Options struct {
	Storage logical.Storage
	// KSeF returns where the configuration in force leads, to end sessions whose role is gone.
	// Where it fails with a *client.InputError, sessions are forgotten and end by themselves within
	// 7 days.
	KSeF func(ctx context.Context) (KSeF, error)
	// Login returns how the session of a key is made now. It is called before each login and
	// refresh, and after Changed and Moved, and never by a read that memory answers. It may ask
	// KSeF, such as for a token that stands behind the login. Its errors are those of Read. After a
	// *GoneError the key's session is ended.
	Login func(ctx context.Context, key Key) (Login, error)
	// OnLogin is called after each login, with the error of one that failed. After a refusal Login
	// is asked once more, and a login by another fingerprint is made at once.
	OnLogin func(key Key, err error)
	// OnUnread is called before the session of a key is ended because the key has not been read
	// since then. It is called again after an error, and the next read calls Login.
	OnUnread func(ctx context.Context, key Key, since time.Time) error
	Logger   hclog.Logger
}

// GoneError says that the role of a key is gone, or that it no longer allows the taxpayer.
type GoneError struct{ Err error }

func (e *GoneError) Error() string { return e.Err.Error() }

// Unwrap returns what was found.
func (e *GoneError) Unwrap() error { return e.Err }

// Token is what a read is answered with.
type Token struct {
	AccessToken client.Secret
	// SessionNumber is KSeF's number of the session.
	SessionNumber string
	// FetchedAt and ExpiresAt are by this machine's clock.
	FetchedAt, ExpiresAt time.Time
	// TTL is the time until the next refresh, in whole seconds, of which it has at least 5.
	TTL time.Duration
	// RefreshPeriod is the interval of the refreshes: 4 minutes, or a fifth of the access token's
	// life where that is shorter than KSeF's usual 15 minutes.
	RefreshPeriod time.Duration
	// Warning says that KSeF has not given a newer access token when it was asked; "" for none.
	Warning string
}
