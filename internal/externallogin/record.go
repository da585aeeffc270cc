// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/jsonentry"
	"vault-plugin-secrets-ksef/internal/session"
)

// StoragePrefix is the prefix of logins in progress. They contain bearer tokens, so it must be
// seal-wrapped.
const StoragePrefix = "logins/"

const storedVersion = 1

// record is a login in progress, stored under its challenge, which is unique. It is never printed.
type record struct {
	Version     int                      `json:"version"`
	API         string                   `json:"api"`
	Context     client.ContextIdentifier `json:"context"`
	SubjectType string                   `json:"subject_identifier_type"`
	Challenge   string                   `json:"challenge"`
	Began       time.Time                `json:"began"`
	// ValidUntil is when KSeF stops accepting the signed request.
	ValidUntil time.Time `json:"valid_until"`

	// AllowedIPs are the addresses that the session will be bound to, as config had them at the
	// beginning.
	AllowedIPs []string `json:"allowed_ips,omitempty"`

	// Submitted is when KSeF accepted the request. The fields below are empty before.
	Submitted       time.Time `json:"submitted,omitzero"`
	Subject         string    `json:"author,omitempty"`
	ReferenceNumber string    `json:"reference_number,omitempty"`
	Operation       string    `json:"operation,omitempty"`
	OperationUntil  time.Time `json:"operation_until,omitzero"`

	// Failed is when the login failed, Failure why.
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

// session returns the login's session, without tokens.
func (r *record) session() *session.Session {
	return &session.Session{ReferenceNumber: r.ReferenceNumber, Context: r.Context, API: r.API, Subject: r.Subject, External: true, AllowedIPs: r.AllowedIPs}
}

// failuresShown is how long status shows a failed login.
const failuresShown = 24 * time.Hour

// isObsolete reports whether the record is of no more use.
func (r *record) isObsolete(now time.Time) bool {
	if !r.Failed.IsZero() {
		return now.Sub(r.Failed) > failuresShown
	}
	return r.ReferenceNumber == "" && now.After(r.ValidUntil)
}

// load returns nil where there is no readable record.
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

// dropIf deletes the records that are of no use, and those that cannot be read: such a login cannot
// continue.
func (l *Logins) dropIf(ctx context.Context, useless func(*record) bool) error {
	challenges, err := l.Storage.List(ctx, StoragePrefix)
	if err != nil {
		return fmt.Errorf("listing the logins in progress: %w", err)
	}
	for _, challenge := range challenges {
		login, err := l.read(ctx, challenge)
		if errors.Is(err, errUnreadable) || (login != nil && useless(login)) {
			err = l.drop(ctx, challenge)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Logins) save(ctx context.Context, login *record) error {
	return jsonentry.Put(ctx, l.Storage, StoragePrefix+login.Challenge, login, "the login in progress")
}

func (l *Logins) drop(ctx context.Context, challenge string) error {
	if err := l.Storage.Delete(ctx, StoragePrefix+challenge); err != nil {
		return fmt.Errorf("dropping the login in progress: %w", err)
	}
	l.forgetPolls(challenge)
	return nil
}

// all returns the records, oldest first: a challenge begins with its date.
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
