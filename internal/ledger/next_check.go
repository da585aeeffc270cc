// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// nextCheckPrefix keeps when a folder of live records must be looked at next, where that is later
// than its own name says: renewals move deadlines, and a start must not read every renewed record
// to learn that.
const nextCheckPrefix = "visits/"

// nextCheck returns when a bucket must be looked at.
func (s store) nextCheck(ctx context.Context, bucket string) (time.Time, error) {
	named := bucketStart(bucket).Add(overdueNotice)
	if named.After(time.Now()) {
		return named, nil
	}
	entry, err := s.Get(ctx, nextCheckPrefix+bucket)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the next visit of %s: %w", bucket, err)
	}
	if entry == nil {
		return named, nil
	}
	noted, err := time.Parse(time.RFC3339, string(entry.Value))
	if err != nil {
		return named, nil //nolint:nilerr // a note that cannot be read costs one early visit
	}
	return noted, nil
}

func (s store) putNextCheck(ctx context.Context, bucket string, next time.Time) error {
	err := s.Put(ctx, &logical.StorageEntry{Key: nextCheckPrefix + bucket, Value: []byte(next.UTC().Format(time.RFC3339))})
	if err != nil {
		return fmt.Errorf("noting the next visit of %s: %w", bucket, err)
	}
	return nil
}

func (s store) deleteNextCheck(ctx context.Context, bucket string) error {
	return s.remove(ctx, nextCheckPrefix+bucket)
}

// pruneNextChecks forgets the notes of all buckets but these: one whose records have gone is not
// visited again.
func (s store) pruneNextChecks(ctx context.Context, buckets []string) error {
	noted, err := s.names(ctx, nextCheckPrefix)
	if err != nil {
		return err
	}
	for _, bucket := range noted {
		if slices.Contains(buckets, bucket) {
			continue
		}
		if err := s.deleteNextCheck(ctx, bucket); err != nil {
			return err
		}
	}
	return nil
}
