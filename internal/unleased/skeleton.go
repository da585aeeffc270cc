// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
)

type holder struct{}

var errSkeleton = errors.New("not built yet")

// Token returns the token in force, from memory after the first time. It has the first one made
// where there is none. A static role's token is checked with KSeF before it is returned the first
// time since the start. The caller has checked that the role exists and that its tokens are
// accepted: memory does not know. Errors: ErrNoRole, ErrEnded, a *WaitError after a failure, the
// ledger's and storage's.
func (h *Holders) Token(_ context.Context, _ Key) (*Token, error) { return nil, errSkeleton }

// Apply applies a role that was written: it has the first token made, rotates where the Fingerprint
// has changed, and plans the next rotation anew where the schedule has. After a failure Advance
// goes on.
func (h *Holders) Apply(_ context.Context, _ Key) (*Token, error) { return nil, errSkeleton }

// ApplyRole applies an access-token role that was written, for all taxpayers: tokens with another
// Fingerprint are no longer in force when it returns, and are revoked by Advance. The next Token
// has others made.
func (h *Holders) ApplyRole(_ context.Context, _ ledger.HolderKind, _ string) error {
	return errSkeleton
}

// RotateOptions say how to rotate.
type RotateOptions struct {
	// RevokePrevious revokes the tokens before at once, without grace.
	RevokePrevious bool
	// KeepSchedule leaves the next rotation where it is.
	KeepSchedule bool
}

// Rotate has a new token made and puts it in force. That is recorded first: where it fails, the
// token before stays in force and Advance tries again. A revocation that KSeF has not confirmed is
// a Warning. Errors are those of Token.
func (h *Holders) Rotate(_ context.Context, _ Key, _ RotateOptions) (*Token, error) {
	return nil, errSkeleton
}

// Replace has another token made, since KSeF no longer accepts dead. Where another is in force
// already, it returns that. It makes one at most every five minutes, and returns a *WaitError until
// then.
func (h *Holders) Replace(_ context.Context, _ Key, dead string) (*Token, error) {
	_ = dead
	return nil, errSkeleton
}

// Import puts a token in force that was made elsewhere. The request's holder is set here. The role
// must exist. A repeated import of the token in force does nothing. Errors: ErrNoRole, ErrEnded,
// the ledger's (a *client.InputError where another holder has the token) and storage's.
func (h *Holders) Import(_ context.Context, _ Key, _ ledger.ImportRequest) (*Token, error) {
	return nil, errSkeleton
}

// Delete revokes the holder's tokens, or with keep releases them, and returns their numbers. Where
// it fails, Advance goes on. The error is a *ledger.PendingError where KSeF has not confirmed each
// revocation: the ledger goes on with it.
func (h *Holders) Delete(_ context.Context, _ Key, keep bool) (referenceNumbers []string, err error) {
	_ = keep
	return nil, errSkeleton
}

// DeleteRole is Delete for all taxpayers of a role.
func (h *Holders) DeleteRole(_ context.Context, _ ledger.HolderKind, _ string) (referenceNumbers []string, err error) {
	return nil, errSkeleton
}

// Keys returns the holders of a role that have or had tokens.
func (h *Holders) Keys(_ context.Context, _ ledger.HolderKind, _ string) ([]Key, error) {
	return nil, errSkeleton
}

// MarkUnused says that nothing has used the token since then. Without a Token call it is revoked
// seven days later.
func (h *Holders) MarkUnused(_ context.Context, _ Key, since time.Time) error {
	_ = since
	return errSkeleton
}

// Advance does what is due: rotations, also those that have failed, the ends of grace periods,
// revocations after a crash. next is when to call it again; zero for nothing due. The error is of
// storage or of Spec; a failed rotation is an Event and in Troubles.
func (h *Holders) Advance(_ context.Context) (next time.Time, err error) {
	return time.Time{}, errSkeleton
}

// RetryNow makes rotations due that wait after a failure.
func (h *Holders) RetryNow() {}

// Invalidate forgets what memory has of the holders: another node may have changed them, or the
// configuration has.
func (h *Holders) Invalidate() {}

// Troubles returns a sentence for each rotation that fails and each token that was replaced within
// the last day, in order. It reads no storage.
func (h *Holders) Troubles() []string { return nil }
