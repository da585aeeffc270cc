// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// The layout: a record's folder says its state, and that of a live one when it may be due. So
// start-up and each minute's work list and read what is pending or due, however many tokens live.
//
//	ledger/issuing/<nonce>
//	ledger/live/<bucket>/<reference number>
//	ledger/ending/<reference number>         revoking or dead
//
// A record moves by writing the new entry before deleting the old one. Where a crash leaves both,
// the later state counts.
const (
	StoragePrefix = "ledger/"
	issuingPrefix = StoragePrefix + "issuing/"
	livePrefix    = StoragePrefix + "live/"
	endingPrefix  = StoragePrefix + "ending/"
)

type store struct {
	logical.Storage
	unreadable func(entry *logical.StorageEntry, err error)
}

func issuingKey(nonce string) string { return issuingPrefix + nonce }

func liveKey(nonce, referenceNumber string) string {
	return livePrefix + nonce[:bucketDigits] + "/" + referenceNumber
}

func endingKey(referenceNumber string) string { return endingPrefix + referenceNumber }

func (r *Record) key() string {
	switch r.State {
	case Issuing:
		return issuingKey(r.Nonce)
	case Live:
		return liveKey(r.Nonce, r.ReferenceNumber)
	default:
		return endingKey(r.ReferenceNumber)
	}
}

func (s store) put(ctx context.Context, record *Record) error {
	entry, err := logical.StorageEntryJSON(record.key(), record)
	if err != nil {
		return fmt.Errorf("encoding the ledger's record %s: %w", record.Nonce, err)
	}
	if err := s.Put(ctx, entry); err != nil {
		return fmt.Errorf("writing the ledger's record %s: %w", record.Nonce, err)
	}
	return nil
}

// get returns nil where there is no record.
func (s store) get(ctx context.Context, key string) (*Record, error) {
	entry, err := s.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's %s: %w", key, err)
	}
	if entry == nil {
		return nil, nil
	}
	record, err := decodeRecord(key, entry.Value)
	if err != nil {
		s.unreadable(entry, err)
	}
	return record, err
}

// locate finds a token's record. It reads in the order in which records move, so that one that
// moves meanwhile is not missed; the later state counts.
func (s store) locate(ctx context.Context, nonce, referenceNumber string) (*Record, error) {
	live, err := s.get(ctx, liveKey(nonce, referenceNumber))
	if err != nil && !errors.Is(err, errUnreadableRecord) {
		return nil, err
	}
	ending, endingErr := s.get(ctx, endingKey(referenceNumber))
	if endingErr != nil || ending != nil {
		return ending, endingErr
	}
	return live, err
}

func (s store) remove(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			return fmt.Errorf("deleting the ledger's %s: %w", key, err)
		}
	}
	return nil
}

func (s store) names(ctx context.Context, prefix string) ([]string, error) {
	keys, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing the ledger's %s: %w", prefix, err)
	}
	return keys, nil
}

// buckets returns the names of the folders that hold live records, earliest deadline first.
func (s store) buckets(ctx context.Context) ([]string, error) {
	names, err := s.names(ctx, livePrefix)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, "/")
	}
	return names, nil
}
