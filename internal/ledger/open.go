// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
)

// OpenTargets returns where there are records that are not dead. It reads them all; unreadable ones
// are left out.
func (l *Ledger) OpenTargets(ctx context.Context) (map[Target]struct{}, error) {
	open := make(map[Target]struct{})
	err := l.eachOpen(ctx, func(record *Record) { open[record.Target] = struct{}{} })
	return open, err
}

// eachOpen visits the records that are not dead. Unreadable ones are left out.
func (l *Ledger) eachOpen(ctx context.Context, visit func(*Record)) error {
	return l.eachRecord(ctx, func(_ string, record *Record, _ error) {
		if record != nil && record.State != Dead {
			visit(record)
		}
	})
}

// eachRecord visits every record, in the order in which records move. One that cannot be read is
// nil, with the reason; nil without one is gone by now.
func (l *Ledger) eachRecord(ctx context.Context, visit func(folder string, record *Record, unreadable error)) error {
	folders, err := l.store.openFolders(ctx)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		names, err := l.store.names(ctx, folder)
		if err != nil {
			return err
		}
		for _, name := range names {
			record, err := l.store.get(ctx, folder+name)
			if err != nil && !errors.Is(err, errUnreadableRecord) {
				return err
			}
			visit(folder, record, err)
		}
	}
	return nil
}

// openFolders are in the order in which records move, so that one that moves in the meantime is
// met.
func (s store) openFolders(ctx context.Context) ([]string, error) {
	buckets, err := s.buckets(ctx)
	if err != nil {
		return nil, err
	}
	folders := []string{issuingPrefix}
	for _, bucket := range buckets {
		folders = append(folders, livePrefix+bucket+"/")
	}
	return append(folders, endingPrefix), nil
}
