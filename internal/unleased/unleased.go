// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package unleased decides which token a static role or an access-token role has in force: it has
// the first one made, rotates it, keeps the one before for its grace period, replaces a dead one,
// imports and deletes. The ledger has the tokens; this package knows no role and no configuration.
package unleased

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
)

// Key names the holder of a token.
type Key struct {
	Kind ledger.HolderKind `json:"kind"`
	Role string            `json:"role"`
	// Taxpayer is zero for a static role, whose taxpayer comes with its Spec.
	Taxpayer client.ContextIdentifier `json:"taxpayer,omitzero"`
}

func (k Key) String() string {
	if k.Kind == ledger.HolderStatic {
		return "the static role " + k.Role
	}
	return fmt.Sprintf("the access-token role %s in %s", k.Role, k.Taxpayer)
}

// StaticKey returns the key of a static role.
func StaticKey(role string) Key { return Key{Kind: ledger.HolderStatic, Role: role} }

// AccessKey returns the key of an access-token role in one taxpayer's context.
func AccessKey(role string, taxpayer client.ContextIdentifier) Key {
	return Key{Kind: ledger.HolderAccess, Role: role, Taxpayer: taxpayer}
}

// HolderOf returns the key of the holder that the record of a token without a lease names.
func HolderOf(record *ledger.Record) Key {
	key := Key{Kind: record.Holder.Kind, Role: record.Holder.Role}
	if key.Kind != ledger.HolderStatic {
		key.Taxpayer = record.Target.Context
	}
	return key
}

// Spec is what a holder's token must be, by the role and the configuration in force.
type Spec struct {
	// Request returns what to ask the ledger for; the holder is added. It is called as
	// ledger.Issue's prepare, and must not wait for the configuration.
	Request func() (ledger.IssueRequest, error)
	// Fingerprint changes with the permissions and the taxpayer: the token of another one is
	// replaced at once.
	Fingerprint string
	// Period is the time between two rotations; 0 where Schedule says it, or for none.
	Period time.Duration
	// Schedule is a cron expression in UTC; "" for none.
	Schedule string
	// Window is how long after a moment of Schedule a rotation may begin; 0 until the next one.
	Window time.Duration
	// Spread shortens each Period by up to a tenth.
	Spread bool
	// Grace is how long the token before stays good after a rotation.
	Grace time.Duration
	// Automatic is false where only Rotate, a change of Fingerprint and a dead token rotate.
	Automatic bool
	// Until is when KSeF stops accepting tokens: from then on none is made, and all are revoked;
	// zero for never.
	Until time.Time
}

// Ledger has the records and the texts of the tokens. *ledger.Ledger is one.
type Ledger interface {
	Issue(ctx context.Context, prepare func() (ledger.IssueRequest, error)) (*ledger.Issued, error)
	Import(ctx context.Context, request ledger.ImportRequest) error
	// Unleased returns the records of all holders' tokens.
	Unleased(ctx context.Context) ([]ledger.Record, error)
	// Secret returns a token's text; "" where it is not stored.
	Secret(ctx context.Context, referenceNumber string) (client.Secret, error)
	Status(ctx context.Context, target ledger.Target, referenceNumber string) (client.TokenStatus, error)
	// RevokeUnleased returns a *ledger.PendingError where the revocation is recorded and goes on.
	RevokeUnleased(ctx context.Context, referenceNumber, cause string) error
	Release(ctx context.Context, referenceNumber string) error
}

// Options are what Holders work with. All are required.
type Options struct {
	Storage logical.Storage
	Ledger  Ledger
	// Spec returns nil where the role does not exist.
	Spec func(ctx context.Context, key Key) (*Spec, error)
	// OnEvent is called with what happened to a holder's token. It must not call the Holders.
	OnEvent func(Event)
	// OnUnreadable is called with a state that cannot be read. Its tokens are left alone.
	OnUnreadable func(entry *logical.StorageEntry, err error)
	// Wake is called where something becomes due before the time that Advance has returned.
	Wake   func()
	Logger hclog.Logger
}

// Event is something that happened to a holder's token.
type Event struct {
	// Kind is one of the constants below.
	Kind string
	Key  Key
	// ReferenceNumber is that of the new token, Previous that of the one before; "" for none.
	ReferenceNumber, Previous string
	// Automatic says that no request asked for it.
	Automatic bool
	// Err is why a kind that ends in "-fail" happened.
	Err error
}

// Dead is a token that can no longer be used.
type Dead struct {
	ReferenceNumber string
	// NeverActive says that KSeF has not activated the token: no reader has revoked it.
	NeverActive bool
}

// The kinds of event.
const (
	EventRotate     = "token-rotate"
	EventRotateFail = "token-rotate-fail"
	// EventReplace is a rotation because KSeF does not accept the token before.
	EventReplace = "token-replace"
)

// Errors of the methods below, besides those of the ledger, of Spec and of storage.
var (
	// ErrNoRole says that the role does not exist.
	ErrNoRole = errors.New("the role does not exist")
	// ErrEnded says that the Spec's Until is over.
	ErrEnded = errors.New("KSeF no longer accepts tokens, by tokens_accepted_until of config")
)

// WaitError says that the holder has no token that can be used, and is not to ask for one yet.
type WaitError struct {
	Key Key
	// Next is when another is asked for.
	Next time.Time
	// Err is why there is none.
	Err error
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("%s has no token at the moment; the engine tries again about %s: %v", e.Key, e.Next.UTC().Format(time.RFC3339), e.Err)
}

func (e *WaitError) Unwrap() error { return e.Err }

// Token is a holder's token in force.
type Token struct {
	Token           client.Secret
	ReferenceNumber string
	Target          ledger.Target
	Permissions     []string
	// Made is when KSeF made the token, or when it was imported.
	Made         time.Time
	LastRotation time.Time
	// NextRotation is zero where none is planned.
	NextRotation time.Time
	// PreviousUntil is when the last of the tokens before is revoked; zero without any.
	PreviousUntil time.Time
	// Warning is what the caller should know; "" for nothing.
	Warning string
}
