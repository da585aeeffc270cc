// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/jsonentry"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

// StoragePrefix begins the keys of the holders' states. They have no secrets.
const StoragePrefix = "token-holders/"

const stateVersion = 1

// state is what is stored of a holder. A token of the holder that it does not name was never
// returned, and is revoked.
type state struct {
	Version int `json:"version"`
	Key     Key `json:"key"`
	// Current is the token in force; nil for none.
	Current *named `json:"current,omitempty"`
	// Pending is a token that is to be in force: one that KSeF has not activated yet, or one whose
	// import has begun.
	Pending *named `json:"pending,omitempty"`
	// Previous are the tokens to revoke.
	Previous []previous `json:"previous,omitempty"`
	// Asked is a rotation that was asked for and is not done.
	Asked *RotateOptions `json:"asked,omitempty"`

	LastRotation time.Time `json:"last_rotation,omitzero"`
	// NextRotation was computed for Schedule.
	NextRotation time.Time `json:"next_rotation,omitzero"`
	Schedule     string    `json:"schedule,omitempty"`

	// Failures is 0 unless a new token is due that the last attempt has not put in force, and
	// counts the attempts that lengthen the pause. RetryAt is when the next may begin, and
	// LastError why the last failed.
	Failures  int       `json:"failures,omitempty"`
	RetryAt   time.Time `json:"retry_at,omitzero"`
	LastError string    `json:"last_error,omitempty"`
	// Replaced is when a dead token was last replaced, ReplacedToken its number, and
	// ReplacedNeverActive its NeverActive.
	Replaced      time.Time `json:"replaced,omitzero"`
	ReplacedToken string    `json:"replaced_token,omitempty"`

	ReplacedNeverActive bool `json:"replaced_never_active,omitempty"`
	// UnusedSince is zero for a token in use.
	UnusedSince time.Time `json:"unused_since,omitzero"`
	// Ending says that the holder is being deleted; "" otherwise.
	Ending ending `json:"ending,omitempty"`
}

// named is a token as a state names it.
type named struct {
	ReferenceNumber string        `json:"reference_number"`
	Target          ledger.Target `json:"target"`
	Permissions     []string      `json:"permissions"`
	// Fingerprint is that of the Spec that the token was made for.
	Fingerprint string    `json:"fingerprint"`
	Made        time.Time `json:"made"`
	// ValidUntil is when KSeF ends the token by itself; zero where it has not said.
	ValidUntil time.Time `json:"valid_until,omitzero"`
	Imported   bool      `json:"imported,omitempty"`
	// Dead says that the token can no longer be used, so that another must replace it.
	Dead bool `json:"dead,omitempty"`
	// NeverActive is that of Dead.
	NeverActive bool `json:"never_active,omitempty"`
}

// previous is a token that was in force.
type previous struct {
	ReferenceNumber string    `json:"reference_number"`
	Until           time.Time `json:"until"`
}

// ending is what becomes of the tokens of a holder that is being deleted.
type ending string

const (
	endingRevoke  ending = "revoke"
	endingRelease ending = "release"
)

// names returns the numbers of all tokens that the state knows.
func (s *state) names() []string {
	var all []string
	for _, token := range []*named{s.Current, s.Pending} {
		if token != nil {
			all = append(all, token.ReferenceNumber)
		}
	}
	for _, before := range s.Previous {
		all = append(all, before.ReferenceNumber)
	}
	return all
}

// previousUntil is when the last of the tokens before is revoked; zero without any.
func (s *state) previousUntil() (until time.Time) {
	for _, before := range s.Previous {
		if before.Until.After(until) {
			until = before.Until
		}
	}
	return until
}

// retire puts the token in force among those to revoke.
func (s *state) retire(until time.Time) {
	if s.Current == nil {
		return
	}
	s.Previous = append(s.Previous, previous{s.Current.ReferenceNumber, until.UTC()})
	s.Current = nil
}

// endGraces has all tokens before revoked now.
func (s *state) endGraces(now time.Time) {
	for i := range s.Previous {
		s.Previous[i].Until = background.Earlier(s.Previous[i].Until, now.UTC())
	}
}

// noTaxpayer stands in the key of a static role's state.
const noTaxpayer = "-"

func (k Key) storageKey() string {
	taxpayer := noTaxpayer
	if !k.Taxpayer.IsZero() {
		taxpayer = k.Taxpayer.String()
	}
	return rolePrefix(k.Kind, k.Role) + taxpayer
}

func rolePrefix(kind ledger.HolderKind, role string) string {
	return StoragePrefix + string(kind) + "/" + role + "/"
}

// parseStorageKey is the reverse of storageKey.
func parseStorageKey(key string) (Key, bool) {
	parts := strings.Split(strings.TrimPrefix(key, StoragePrefix), "/")
	if len(parts) != 3 {
		return Key{}, false
	}
	parsed := Key{Kind: ledger.HolderKind(parts[0]), Role: parts[1]}
	if parts[2] != noTaxpayer {
		kind, value, _ := strings.Cut(parts[2], ":")
		parsed.Taxpayer = client.ContextIdentifier{Type: client.ContextType(kind), Value: value}
	}
	return parsed, parsed.storageKey() == key
}

func (k Key) holder() ledger.Holder { return ledger.Holder{Kind: k.Kind, Role: k.Role} }

var errUnreadableState = errors.New("cannot be read by this version")

// loadState returns nil where nothing is stored.
func (h *Holders) loadState(ctx context.Context, key Key) (*state, error) {
	entry, err := h.Storage.Get(ctx, key.storageKey())
	if err != nil {
		return nil, fmt.Errorf("reading the token of %s: %w", key, err)
	}
	if entry == nil {
		return nil, nil
	}
	var found state
	if err := entry.DecodeJSON(&found); err != nil || found.Version != stateVersion || found.Key != key {
		h.OnUnreadable(entry, errUnreadableState)
		return nil, &client.InputError{
			Field: "role", Fault: fmt.Sprintf("has a stored state (%s) that %v", entry.Key, errUnreadableState),
			Remedy: "delete the role, which revokes its tokens, and write it again", Cause: errUnreadableState,
		}
	}
	return &found, nil
}

func (h *Holders) putState(ctx context.Context, s *state) error {
	return jsonentry.Put(ctx, h.Storage, s.Key.storageKey(), s, "the token of "+s.Key.String())
}

func (h *Holders) deleteState(ctx context.Context, key Key) error {
	if err := h.Storage.Delete(ctx, key.storageKey()); err != nil {
		return fmt.Errorf("removing the state of %s: %w", key, err)
	}
	return nil
}

// storedKeys returns the holders with a state under a prefix.
func (h *Holders) storedKeys(ctx context.Context, prefix string) ([]Key, error) {
	// Not CollectKeysWithPrefix, which goes through all of the storage.
	found, err := logical.CollectKeys(ctx, logical.NewStorageView(h.Storage, prefix))
	if err != nil {
		return nil, fmt.Errorf("listing the holders of tokens: %w", err)
	}
	var keys []Key
	for _, name := range found {
		if key, ok := parseStorageKey(prefix + name); ok {
			keys = append(keys, key)
		} else {
			h.Logger.Warn("a storage entry is no holder's", "key", prefix+name)
		}
	}
	return keys, nil
}
