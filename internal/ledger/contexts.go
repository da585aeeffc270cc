// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
)

// OpenTargets returns where there are records that are not dead. It reads them all; unreadable
// ones are left out.
func (l *Ledger) OpenTargets(ctx context.Context) (map[Target]struct{}, error) {
	buckets, err := l.store.buckets(ctx)
	if err != nil {
		return nil, err
	}
	folders := []string{issuingPrefix}
	for _, bucket := range buckets {
		folders = append(folders, livePrefix+bucket+"/")
	}
	open := make(map[Target]struct{})
	// The ending ones are read last: a record moves from live to ending.
	for _, folder := range append(folders, endingPrefix) {
		if err := l.addOpen(ctx, folder, open); err != nil {
			return nil, err
		}
	}
	return open, nil
}

func (l *Ledger) addOpen(ctx context.Context, folder string, open map[Target]struct{}) error {
	names, err := l.store.names(ctx, folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		record, err := l.store.get(ctx, folder+name)
		switch {
		case errors.Is(err, errBadRecord):
		case err != nil:
			return err
		case record != nil && record.State != Dead:
			open[record.Target] = struct{}{}
		}
	}
	return nil
}
