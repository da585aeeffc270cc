// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
)

// stored is a session as it lies in storage. It is the one place where its
// tokens are written out.
type stored struct {
	Version         int            `json:"version"`
	Identity        string         `json:"identity"`
	ReferenceNumber string         `json:"reference_number"`
	Context         client.Context `json:"context"`
	Access          string         `json:"access"`
	AccessUntil     time.Time      `json:"access_until"`
	Refresh         string         `json:"refresh"`
	RefreshUntil    time.Time      `json:"refresh_until"`
	Since           time.Time      `json:"since"`
}

const storedVersion = 1

func storageKey(in client.Context) string { return StoragePrefix + in.String() }

func save(ctx context.Context, storage logical.Storage, identity string, session *Session) error {
	entry, err := logical.StorageEntryJSON(storageKey(session.Context), stored{
		Version: storedVersion, Identity: identity, ReferenceNumber: session.ReferenceNumber, Context: session.Context,
		Access: session.Access.Token.Reveal(), AccessUntil: session.Access.ValidUntil,
		Refresh: session.Refresh.Token.Reveal(), RefreshUntil: session.Refresh.ValidUntil,
		Since: session.Since,
	})
	if err != nil {
		return fmt.Errorf("encoding the session of %s: %w", session.Context, err)
	}
	if err := storage.Put(ctx, entry); err != nil {
		return fmt.Errorf("storing the session of %s: %w", session.Context, err)
	}
	return nil
}

// load returns nil where nothing is stored, or only what another
// configuration has left.
func load(ctx context.Context, storage logical.Storage, identity string, in client.Context) (*Session, error) {
	entry, err := storage.Get(ctx, storageKey(in))
	if err != nil {
		return nil, fmt.Errorf("reading the session of %s: %w", in, err)
	}
	if entry == nil {
		return nil, nil
	}
	var found stored
	if err := entry.DecodeJSON(&found); err != nil {
		return nil, fmt.Errorf("decoding the session of %s: %w", in, err)
	}
	if found.Identity != identity || found.Version != storedVersion {
		return nil, nil
	}
	return &Session{
		ReferenceNumber: found.ReferenceNumber, Context: found.Context,
		Access:  client.Bearer{Token: client.Secret(found.Access), ValidUntil: found.AccessUntil},
		Refresh: client.Bearer{Token: client.Secret(found.Refresh), ValidUntil: found.RefreshUntil},
		Since:   found.Since,
	}, nil
}

// list returns the stored sessions of one configuration.
func list(ctx context.Context, storage logical.Storage, identity string) ([]*Session, error) {
	keys, err := storage.List(ctx, StoragePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var sessions []*Session
	for _, key := range keys {
		session, err := load(ctx, storage, identity, parseContext(key))
		if err != nil {
			return nil, err
		}
		if session != nil {
			sessions = append(sessions, session)
		}
	}
	return sessions, nil
}

// parseContext is the inverse of Context.String.
func parseContext(key string) client.Context {
	for i := range key {
		if key[i] == ':' {
			return client.Context{Type: client.ContextType(key[:i]), Value: key[i+1:]}
		}
	}
	return client.Context{}
}
