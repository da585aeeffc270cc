// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"fmt"
	"strings"
)

// HolderKind is the kind of role that a token without a lease belongs to.
type HolderKind string

// The kinds of holder.
const (
	// HolderStatic is a static role, which hands the token itself out.
	HolderStatic HolderKind = "static"
	// HolderAccess is an access-token role, which logs in with the token and returns it to no
	// caller.
	HolderAccess HolderKind = "access"
)

// Holder is what a token without a lease belongs to; the zero Holder is that of a leased token. The
// taxpayer is in Record.Target.
type Holder struct {
	Kind HolderKind `json:"kind"`
	Role string     `json:"role"`
}

// String names the role, as "the static role erp"; "" for the zero Holder.
func (h Holder) String() string {
	switch h.Kind {
	case HolderStatic:
		return "the static role " + h.Role
	case HolderAccess:
		return "the access-token role " + h.Role
	default:
		return ""
	}
}

var errInvalidHolder = errors.New("is no holder of a token without a lease")

// check refuses a holder whose records could not be read again. The zero Holder passes.
func (h Holder) check() error {
	if h == (Holder{}) || (h.Role != "" && (h.Kind == HolderStatic || h.Kind == HolderAccess)) {
		return nil
	}
	return fmt.Errorf("%q of the kind %q %w", h.Role, h.Kind, errInvalidHolder)
}

// The nonce of a token without a lease has a word in the place of the bucket. The versions that
// know leased tokens only do not take that for a nonce, so that they never touch such a token.
const (
	staticWord = "static"
	accessWord = "access"
	// importedWord is of a token that others have made: its nonce is in its record only.
	importedWord = "import"
)

// newHolderNonce is for a token that the holder has made.
func newHolderNonce(kind HolderKind) string {
	if kind == HolderAccess {
		return accessWord + randomHex(randomBytes)
	}
	return staticWord + randomHex(randomBytes)
}

func newImportedNonce() string { return importedWord + randomHex(randomBytes) }

// holderKindOf returns the kind of holder that a nonce names; "" for the nonce of a leased token.
func holderKindOf(nonce string) HolderKind {
	switch {
	case strings.HasPrefix(nonce, staticWord), isImported(nonce):
		return HolderStatic
	case strings.HasPrefix(nonce, accessWord):
		return HolderAccess
	default:
		return ""
	}
}

func isImported(nonce string) bool { return strings.HasPrefix(nonce, importedWord) }

// restoreHolder sets the kind of a holder where a version that knows leased tokens only has written
// the record of a token that is ending. It returns false where holder and nonce do not agree. A
// token that has been found without a record has a kind and no role.
func (r *Record) restoreHolder(key string) bool {
	kind := holderKindOf(r.Nonce)
	if kind == "" {
		return r.Holder == Holder{} && r.State != Released
	}
	ending := strings.HasPrefix(key, endingPrefix)
	if ending && r.Holder == (Holder{}) {
		r.Holder.Kind = kind
	}
	return r.Holder.Kind == kind && (ending || r.Holder.Role != "")
}

// Unleased says that no lease of the token has ever existed: a static role or an access-token role
// holds it, or has held it.
func (r *Record) Unleased() bool { return r.Holder.Kind != "" }
