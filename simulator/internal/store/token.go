// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"crypto/sha256"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// Token is a KSeF token. Its status follows from the times.
type Token struct {
	Reference      string
	Hash           [sha256.Size]byte
	Context        ksef.Identifier
	Author         ksef.Identifier
	Description    string
	Folded         string // the description in lower case
	Permissions    []string
	Created        time.Time
	Decided        time.Time // when it stops being Pending
	Fails          bool
	Revoked        time.Time // when revocation was requested, or zero
	RevocationEnds time.Time // when it stops being Revoking
	Expires        time.Time // zero for a token that does not expire
	LastUse        time.Time
}

// Status returns the status at a time.
func (t *Token) Status(now time.Time) string {
	switch {
	case !t.Revoked.IsZero() && now.Before(t.RevocationEnds):
		return StatusRevoking
	case !t.Revoked.IsZero():
		return StatusRevoked
	case now.Before(t.Decided):
		return StatusPending
	case t.Fails:
		return StatusFailed
	case t.Expired(now):
		return StatusRevoked
	}
	return StatusActive
}

// Expired reports whether the token has expired.
func (t *Token) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// The statuses of a token (AuthenticationTokenStatus).
const (
	StatusPending  = "Pending"
	StatusActive   = "Active"
	StatusRevoking = "Revoking"
	StatusRevoked  = "Revoked"
	StatusFailed   = "Failed"
)
