// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/internal/jsonentry"
	"vault-plugin-secrets-ksef/internal/quota"

	"github.com/hashicorp/vault/sdk/logical"
)

// counts is false for a record that no role's limit concerns.
func (r *Record) counts() bool { return r.Role != "" && r.State != Dead }

func (r *Record) counted() quota.Token {
	return quota.Token{Group: groupOf(r.Role, r.Target), ID: r.Nonce, Requester: requesterOf(r.EntityID, r.DisplayName), Created: r.Created}
}

func groupOf(role string, target Target) quota.Group {
	return quota.Group{Role: role, Target: target.String()}
}

// requesterOf tells requesters apart; "" where the record names none.
func requesterOf(entityID, displayName string) string {
	switch {
	case entityID != "":
		return "the entity " + entityID
	case displayName != "":
		return "the display name " + displayName
	}
	return ""
}

// beginCounting has a record counted that is about to be written. end must be called with the
// outcome.
func (s store) beginCounting(key string, record *Record) (end func(error)) {
	if !record.counts() {
		return func(err error) { s.counts.Remove(key, err) }
	}
	return s.counts.BeginWrite(key, record.counted)
}

// readCounts reads what must be counted. Unreadable records are left out.
func (s store) readCounts(ctx context.Context, into *quota.Index) error {
	err := s.eachRecord(ctx, func(_ string, record *Record) error {
		if record == nil {
			return nil
		}
		if record.counts() {
			into.Add(record.key(), record.counted())
		}
		return nil
	})
	return errors.Join(err, s.readIssued(ctx, into))
}

// issuedPrefix has, by role and target, when the tokens of the last hour were issued, since records
// of dead tokens are removed. There are entries for roles with a limit per hour alone.
const issuedPrefix = "issued/"

type issuedEntry struct {
	Version int                  `json:"version"`
	Role    string               `json:"role"`
	Target  Target               `json:"target"`
	Issued  map[string]time.Time `json:"issued"`
}

const issuedVersion = 1

func issuedKey(group quota.Group) string {
	sum := sha256.Sum256([]byte(group.Role + "\n" + group.Target))
	return issuedPrefix + hex.EncodeToString(sum[:16])
}

// readIssued removes the entries that have nothing of the last hour, and leaves out unreadable
// ones.
func (s store) readIssued(ctx context.Context, into *quota.Index) error {
	return s.eachName(ctx, []string{issuedPrefix}, func(prefix, name string) error {
		entry, err := s.issued(ctx, prefix+name)
		switch {
		case errors.Is(err, errUnreadableIssued):
			return nil
		case err != nil || entry == nil:
			return err
		}
		recent := false
		for nonce, at := range entry.Issued {
			recent = recent || quota.IsRecent(at, time.Now())
			into.AddIssued(groupOf(entry.Role, entry.Target), nonce, at)
		}
		if recent {
			return nil
		}
		if err := s.Delete(ctx, prefix+name); err != nil {
			return fmt.Errorf("removing when tokens were issued: %w", err)
		}
		return nil
	})
}

// issued returns nil where there is no entry.
func (s store) issued(ctx context.Context, key string) (*issuedEntry, error) {
	stored, err := s.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading when tokens were issued: %w", err)
	}
	if stored == nil {
		return nil, nil
	}
	entry, err := decodeIssued(key, stored.Value)
	if err != nil {
		s.unreadable(stored, err)
	}
	return entry, err
}

var errUnreadableIssued = errors.New("when a role's tokens were issued cannot be read; its limit per hour counts from its records alone")

func decodeIssued(key string, data []byte) (*issuedEntry, error) {
	var entry issuedEntry
	if err := json.Unmarshal(data, &entry); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadableIssued, err)
	}
	if entry.Version != issuedVersion || issuedKey(groupOf(entry.Role, entry.Target)) != key {
		return nil, errUnreadableIssued
	}
	return &entry, nil
}

// admit counts the token that a request asks for, or refuses it by the limits of its role.
func (l *Ledger) admit(ctx context.Context, nonce string, request *IssueRequest) (*quota.Place, error) {
	return l.store.counts.Admit(ctx, func() quota.Token {
		return quota.Token{
			Group: groupOf(request.Role, request.Target), ID: nonce,
			Requester: requesterOf(request.EntityID, request.DisplayName), Created: time.Now().UTC(),
		}
	}, request.Limits)
}

// recordIssued stores when the tokens of the last hour were issued, the admitted one included. It
// does so before KSeF is asked: after a crash, a token may count that was never made.
func (l *Ledger) recordIssued(ctx context.Context, request *IssueRequest) error {
	if request.Limits.MaxPerHour == 0 {
		return nil
	}
	if err := l.recording.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting to record when a token is issued: %w", err)
	}
	defer l.recording.Release(1)
	group := groupOf(request.Role, request.Target)
	issued, err := l.store.counts.Issued(ctx, group)
	if err != nil {
		return err
	}
	entry := issuedEntry{Version: issuedVersion, Role: request.Role, Target: request.Target, Issued: issued}
	return jsonentry.Put(ctx, l.store, issuedKey(group), entry, "when tokens were issued")
}

func newStore(storage logical.Storage, unreadable func(*logical.StorageEntry, error)) store {
	made := store{Storage: storage, unreadable: unreadable}
	made.counts = quota.New(made.readCounts)
	return made
}
