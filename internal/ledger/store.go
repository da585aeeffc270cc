// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/internal/jsonentry"
	"vault-plugin-secrets-ksef/internal/quota"

	"github.com/hashicorp/vault/sdk/logical"
)

// A record's key begins with its state, and that of a live one with when it may be due. So the work
// at a start and of each minute does not grow with the number of live tokens.
//
//	ledger/issuing/<nonce>
//	ledger/live/<bucket>/<reference number>
//	ledger/ending/<reference number>         revoking or dead
//
// The records of tokens without a lease lie apart until they end, since nothing may take them for
// overdue. They have no deadline, and the versions that know leased tokens only do not list them.
//
//	ledger/unleased/issuing/<nonce>
//	ledger/unleased/live/<reference number>  live or released
//
// A record moves by writing the new entry before deleting the old one. Where a crash leaves both,
// the later state counts.
const (
	StoragePrefix = "ledger/"
	issuingPrefix = StoragePrefix + "issuing/"
	livePrefix    = StoragePrefix + "live/"
	endingPrefix  = StoragePrefix + "ending/"

	unleasedRoot          = StoragePrefix + "unleased/"
	unleasedIssuingPrefix = unleasedRoot + "issuing/"
	unleasedPrefix        = unleasedRoot + "live/"
)

type store struct {
	logical.Storage
	unreadable func(entry *logical.StorageEntry, err error)
	// counts hears of each record that is written or removed.
	counts *quota.Counts
}

func issuingKey(nonce string) string {
	if holderKindOf(nonce) != "" {
		return unleasedIssuingPrefix + nonce
	}
	return issuingPrefix + nonce
}

func unleasedKey(referenceNumber string) string { return unleasedPrefix + referenceNumber }

func liveKey(nonce, referenceNumber string) string {
	if holderKindOf(nonce) != "" {
		return unleasedKey(referenceNumber)
	}
	return livePrefix + nonce[:bucketDigits] + "/" + referenceNumber
}

func endingKey(referenceNumber string) string { return endingPrefix + referenceNumber }

func (r *Record) key() string {
	switch r.State {
	case Issuing:
		return issuingKey(r.Nonce)
	case Live, Released:
		return liveKey(r.Nonce, r.ReferenceNumber)
	default:
		return endingKey(r.ReferenceNumber)
	}
}

func (s store) put(ctx context.Context, record *Record) error {
	key, stored := record.key(), new(*record)
	stored.Version = versionAt(key)
	endCounting := s.beginCounting(key, stored)
	err := jsonentry.Put(ctx, s, key, stored, "the ledger's record "+record.Nonce)
	endCounting(err)
	return err
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

// locate returns a token's record, or nil. It reads in the order in which records move, so that
// none is missed that moves; the later state counts.
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
		err := s.Delete(ctx, key)
		s.counts.Remove(key, err)
		if err != nil {
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

// buckets returns the buckets that have live records, earliest deadline first.
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

// livePrefixes returns the prefixes of live records with a lease, earliest deadline first.
func (s store) livePrefixes(ctx context.Context) ([]string, error) {
	buckets, err := s.buckets(ctx)
	for i, bucket := range buckets {
		buckets[i] = livePrefix + bucket + "/"
	}
	return buckets, err
}

// eachName calls do with the names under the prefixes until do fails.
func (s store) eachName(ctx context.Context, prefixes []string, do func(prefix, name string) error) error {
	for _, prefix := range prefixes {
		names, err := s.names(ctx, prefix)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := do(prefix, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachUnended calls do with the names of issuing records and then of live and released ones, until
// do fails. It lists them in the order in which records move, so that none is missed that moves
// during the listing.
func (s store) eachUnended(ctx context.Context, do func(prefix, name string) error) error {
	if err := s.eachName(ctx, issuingPrefixes, do); err != nil {
		return err
	}
	live, err := s.livePrefixes(ctx)
	if err != nil {
		return err
	}
	return s.eachName(ctx, append(live, unleasedPrefix), do)
}

// issuingPrefixes are those of intents.
var issuingPrefixes = []string{issuingPrefix, unleasedIssuingPrefix}

func isIssuing(prefix string) bool { return slices.Contains(issuingPrefixes, prefix) }

// eachRecord calls do with the records until do fails; an unreadable one is nil. It reads in the
// order in which records move, too.
func (s store) eachRecord(ctx context.Context, do func(prefix string, record *Record) error) error {
	read := func(prefix, name string) error {
		record, err := s.get(ctx, prefix+name)
		if errors.Is(err, errUnreadableRecord) {
			return do(prefix, nil)
		}
		if err != nil || record == nil {
			return err
		}
		return do(prefix, record)
	}
	if err := s.eachUnended(ctx, read); err != nil {
		return err
	}
	return s.eachName(ctx, []string{endingPrefix}, read)
}

// unleased returns the records of the tokens without a lease that are not ending, and the keys of
// those that cannot be read.
func (s store) unleased(ctx context.Context) (records []Record, unreadable []string, err error) {
	err = s.eachName(ctx, []string{unleasedPrefix}, func(prefix, name string) error {
		record, err := s.get(ctx, prefix+name)
		switch {
		case errors.Is(err, errUnreadableRecord):
			unreadable = append(unreadable, prefix+name)
		case err != nil:
			return err
		case record != nil:
			records = append(records, *record)
		}
		return nil
	})
	if err != nil || len(records) == 0 {
		return nil, unreadable, err
	}
	ending := make(map[string]bool)
	err = s.eachName(ctx, []string{endingPrefix}, func(_, referenceNumber string) error {
		ending[referenceNumber] = true
		return nil
	})
	records = slices.DeleteFunc(records, func(record Record) bool { return ending[record.ReferenceNumber] })
	return records, unreadable, err
}

const mountIDKey = "mount-id"

var (
	mountIDPattern    = regexp.MustCompile(`^[0-9a-f]{12}$`)
	errInvalidMountID = errors.New("the mount's id is not one; it is taken from the ledger's records")
)

// knownMountID returns the mount's identifier, or "" where none has been made yet. It fails with
// errInvalidMountID where it is damaged.
func (s store) knownMountID(ctx context.Context) (string, error) {
	entry, err := s.Get(ctx, mountIDKey)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the mount's id: %w", err)
	case entry == nil:
		return "", nil
	case !mountIDPattern.Match(entry.Value):
		s.unreadable(entry, errInvalidMountID)
		return "", errInvalidMountID
	}
	return string(entry.Value), nil
}

// mountID returns the mount's identifier, made once. A damaged one is restored from the records:
// with another, the mount would not find its tokens.
func (s store) mountID(ctx context.Context) (string, error) {
	id, err := s.knownMountID(ctx)
	if errors.Is(err, errInvalidMountID) {
		id, err = s.mountIDOfRecords(ctx)
	} else if id != "" {
		return id, nil
	}
	if err != nil {
		return "", err
	}
	if id == "" {
		id = randomHex(mountIDBytes)
	}
	if err := s.Put(ctx, &logical.StorageEntry{Key: mountIDKey, Value: []byte(id)}); err != nil {
		return "", fmt.Errorf("writing the mount's id: %w", err)
	}
	return id, nil
}

// mountIDOfRecords returns the mount that the first readable record names; "" without any.
func (s store) mountIDOfRecords(ctx context.Context) (mountID string, err error) {
	errFound := errors.New("found")
	err = s.eachRecord(ctx, func(_ string, record *Record) error {
		if record == nil {
			return nil
		}
		// The description of an imported token may have the mark of another mount.
		if found, nonce, _ := parseMarker(record.Description); nonce == record.Nonce {
			mountID = found
		}
		if mountID != "" {
			return errFound
		}
		return nil
	})
	if mountID != "" {
		return mountID, nil
	}
	return "", err
}

// nextCheckPrefix has when a bucket must be checked next, where that is later than its name says:
// renewals move deadlines, and a start must not read every renewed record to learn that.
const nextCheckPrefix = "visits/"

func (s store) nextCheck(ctx context.Context, bucket string) (time.Time, error) {
	named := bucketStart(bucket).Add(overdueNotice)
	if named.After(time.Now()) {
		return named, nil
	}
	entry, err := s.Get(ctx, nextCheckPrefix+bucket)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the next check of %s: %w", bucket, err)
	}
	if entry == nil {
		return named, nil
	}
	stored, err := time.Parse(time.RFC3339, string(entry.Value))
	if err != nil {
		return named, nil //nolint:nilerr // an unreadable entry costs one early check
	}
	return stored, nil
}

func (s store) putNextCheck(ctx context.Context, bucket string, next time.Time) error {
	err := s.Put(ctx, &logical.StorageEntry{Key: nextCheckPrefix + bucket, Value: []byte(next.UTC().Format(time.RFC3339))})
	if err != nil {
		return fmt.Errorf("storing the next check of %s: %w", bucket, err)
	}
	return nil
}

// pruneNextChecks removes the entries of buckets that have no records any more.
func (s store) pruneNextChecks(ctx context.Context, buckets []string) error {
	stored, err := s.names(ctx, nextCheckPrefix)
	if err != nil {
		return err
	}
	for _, bucket := range stored {
		if slices.Contains(buckets, bucket) {
			continue
		}
		if err := s.remove(ctx, nextCheckPrefix+bucket); err != nil {
			return err
		}
	}
	return nil
}
