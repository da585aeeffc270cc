// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/jsonentry"

	"github.com/hashicorp/vault/sdk/logical"
)

// StoragePrefix is where the mount's own sessions lie, and AccessPrefix where those lie whose
// access tokens are handed out. They contain bearer tokens: the prefixes belong among the
// seal-wrapped paths. They are two since a manager ends what it finds under its prefix and does not
// know.
const (
	StoragePrefix = "sessions/"
	AccessPrefix  = "access-sessions/"
)

// stored is a session as it lies in storage. Its tokens are written out nowhere else.
type stored struct {
	Version         int                      `json:"version"`
	Identity        string                   `json:"identity"`
	ReferenceNumber string                   `json:"reference_number"`
	Context         client.ContextIdentifier `json:"context"`
	Access          string                   `json:"access"`
	AccessUntil     time.Time                `json:"access_until"`
	Refresh         string                   `json:"refresh"`
	RefreshUntil    time.Time                `json:"refresh_until"`
	Since           time.Time                `json:"since"`
	API             string                   `json:"api"`
	Subject         string                   `json:"author,omitempty"`
	External        bool                     `json:"outside,omitempty"`
	AllowedIPs      []string                 `json:"allowed_ips,omitempty"`
}

const storedVersion = 1

// folderOf keeps the sessions of one configuration apart from those of the next, so that both can
// be open while one replaces the other.
func folderOf(fingerprint string) string {
	sum := sha256.Sum256([]byte(fingerprint))
	return hex.EncodeToString(sum[:8]) + "/"
}

func storageKey(fingerprint string, taxpayer client.ContextIdentifier) string {
	return folderOf(fingerprint) + taxpayer.String()
}

// ContextOf returns the taxpayer whose session lies at a key below a prefix of sessions, in the
// form of client.ContextIdentifier.String.
func ContextOf(key string) string { return path.Base(key) }

func save(ctx context.Context, storage logical.Storage, fingerprint string, session *Session) error {
	return jsonentry.Put(ctx, storage, storageKey(fingerprint, session.Context), stored{
		Version: storedVersion, Identity: fingerprint, ReferenceNumber: session.ReferenceNumber, Context: session.Context,
		Access: session.Access.Token.Reveal(), AccessUntil: session.Access.ValidUntil,
		Refresh: session.Refresh.Token.Reveal(), RefreshUntil: session.Refresh.ValidUntil,
		Since: session.Since, API: session.API, Subject: session.Subject, External: session.External, AllowedIPs: session.AllowedIPs,
	}, "the session of "+session.Context.String())
}

// load returns nil where there is no session, or none that can be read.
func load(ctx context.Context, storage logical.Storage, fingerprint string, taxpayer client.ContextIdentifier) (*Session, error) {
	return read(ctx, storage, storageKey(fingerprint, taxpayer))
}

func read(ctx context.Context, storage logical.Storage, key string) (*Session, error) {
	entry, err := storage.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading the session of %s: %w", ContextOf(key), err)
	}
	if entry == nil {
		return nil, nil
	}
	var found stored
	err = entry.DecodeJSON(&found)
	if err != nil || found.Version != storedVersion || !strings.HasSuffix(key, storageKey(found.Identity, found.Context)) {
		// If it cannot be deleted, the next login overwrites it.
		_ = storage.Delete(ctx, key)
		return nil, nil //nolint:nilerr // an unreadable session counts as one that has ended
	}
	return &Session{
		ReferenceNumber: found.ReferenceNumber, Context: found.Context,
		Access:  client.Bearer{Token: client.Secret(found.Access), ValidUntil: found.AccessUntil},
		Refresh: client.Bearer{Token: client.Secret(found.Refresh), ValidUntil: found.RefreshUntil},
		Since:   found.Since, API: found.API, Subject: found.Subject, External: found.External, AllowedIPs: found.AllowedIPs,
		key: key,
	}, nil
}

// list returns the stored sessions of one configuration.
func list(ctx context.Context, storage logical.Storage, folder string) ([]*Session, error) {
	names, err := storage.List(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var sessions []*Session
	for _, name := range names {
		session, err := read(ctx, storage, folder+name)
		if err != nil {
			return nil, err
		}
		if session != nil {
			sessions = append(sessions, session)
		}
	}
	return sessions, nil
}

// listAll returns the stored sessions of all configurations.
func listAll(ctx context.Context, storage logical.Storage) ([]*Session, error) {
	names, err := storage.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var sessions []*Session
	failures := make([]error, 0, len(names))
	for _, name := range names {
		if !strings.HasSuffix(name, "/") {
			continue
		}
		found, err := list(ctx, storage, name)
		failures = append(failures, err)
		sessions = append(sessions, found...)
	}
	return sessions, errors.Join(failures...)
}
