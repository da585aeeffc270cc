// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/logical"
)

// StoragePrefix is where logins in progress lie. They hold bearer tokens: the prefix belongs among
// the seal-wrapped paths.
const StoragePrefix = "logins/"

const storedVersion = 1

// record is a login between its beginning and its end. Its challenge, which nobody else has, names
// it. It is never printed.
type record struct {
	Version     int                      `json:"version"`
	API         string                   `json:"api"`
	Context     client.ContextIdentifier `json:"context"`
	SubjectType string                   `json:"subject_identifier_type"`
	Challenge   string                   `json:"challenge"`
	Began       time.Time                `json:"began"`
	// ValidUntil is when KSeF no longer takes the signed request.
	ValidUntil time.Time `json:"valid_until"`

	// AllowedIPs are the addresses that the session will be bound to, as config had them.
	AllowedIPs []string `json:"allowed_ips,omitempty"`

	// Submitted is when KSeF has taken it; what follows is empty before.
	Submitted       time.Time `json:"submitted,omitzero"`
	Subject         string    `json:"author,omitempty"`
	ReferenceNumber string    `json:"reference_number,omitempty"`
	Operation       string    `json:"operation,omitempty"`
	OperationUntil  time.Time `json:"operation_until,omitzero"`

	// Failed is when it came to nothing, Failure why.
	Failed  time.Time `json:"failed,omitzero"`
	Failure string    `json:"failure,omitempty"`
}

func (r *record) isPending() bool { return r.ReferenceNumber != "" && r.Failed.IsZero() }

func (r *record) operation() *client.Operation {
	return &client.Operation{
		ReferenceNumber: r.ReferenceNumber,
		Token:           client.Bearer{Token: client.Secret(r.Operation), ValidUntil: r.OperationUntil},
	}
}

// session is what the login leads to, without its tokens.
func (r *record) session() *session.Session {
	return &session.Session{ReferenceNumber: r.ReferenceNumber, Context: r.Context, API: r.API, Subject: r.Subject, External: true, AllowedIPs: r.AllowedIPs}
}

// failuresShown is how long status tells of a login that came to nothing.
const failuresShown = 24 * time.Hour

// isOver says that nobody needs the record any more.
func (r *record) isOver(now time.Time) bool {
	if !r.Failed.IsZero() {
		return now.Sub(r.Failed) > failuresShown
	}
	return r.ReferenceNumber == "" && now.After(r.ValidUntil)
}

// load returns nil where there is no record, or none that can be read.
func (l *Logins) load(ctx context.Context, challenge string) (*record, error) {
	found, err := l.read(ctx, challenge)
	if errors.Is(err, errUnreadable) {
		return nil, nil
	}
	return found, err
}

var errUnreadable = errors.New("is not a login that this version can read")

func (l *Logins) read(ctx context.Context, challenge string) (*record, error) {
	entry, err := l.Storage.Get(ctx, StoragePrefix+challenge)
	if err != nil {
		return nil, fmt.Errorf("reading the login in progress: %w", err)
	}
	if entry == nil {
		return nil, nil
	}
	var found record
	if err := entry.DecodeJSON(&found); err != nil || found.Version != storedVersion || found.Challenge != challenge {
		unreadable := fmt.Errorf("%s %w", entry.Key, errors.Join(errUnreadable, err))
		l.OnUnreadable(entry, unreadable)
		return nil, unreadable
	}
	return &found, nil
}

// dropUnreadable deletes the records that cannot be read: nobody could go on with such a login.
func (l *Logins) dropUnreadable(ctx context.Context) error {
	challenges, err := l.Storage.List(ctx, StoragePrefix)
	if err != nil {
		return fmt.Errorf("listing the logins in progress: %w", err)
	}
	for _, challenge := range challenges {
		_, err := l.read(ctx, challenge)
		if errors.Is(err, errUnreadable) {
			err = l.drop(ctx, &record{Challenge: challenge})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Logins) save(ctx context.Context, login *record) error {
	entry, err := logical.StorageEntryJSON(StoragePrefix+login.Challenge, login)
	if err != nil {
		return fmt.Errorf("encoding the login in progress: %w", err)
	}
	if err := l.Storage.Put(ctx, entry); err != nil {
		return fmt.Errorf("recording the login in progress: %w", err)
	}
	return nil
}

func (l *Logins) drop(ctx context.Context, login *record) error {
	if err := l.Storage.Delete(ctx, StoragePrefix+login.Challenge); err != nil {
		return fmt.Errorf("dropping the login in progress: %w", err)
	}
	l.forget(login.Challenge)
	return nil
}

// all reads the records, oldest first: challenges begin with their date.
func (l *Logins) all(ctx context.Context) ([]*record, error) {
	challenges, err := l.Storage.List(ctx, StoragePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the logins in progress: %w", err)
	}
	var logins []*record
	for _, challenge := range challenges {
		login, err := l.load(ctx, challenge)
		if err != nil {
			return nil, err
		}
		if login != nil {
			logins = append(logins, login)
		}
	}
	return logins, nil
}
