// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"slices"

	"vault-plugin-secrets-ksef/client"
)

// Authors are those whose logins have made tokens that may be alive.
type Authors map[client.Context][]string

// Authors reads the records of tokens of an API that may be alive. "" stands for
// one whom no record names. Unreadable records name neither context nor author.
func (l *Ledger) Authors(ctx context.Context, api string) (Authors, error) {
	folders, err := l.openFolders(ctx)
	if err != nil {
		return nil, err
	}
	authors := make(Authors)
	for _, folder := range folders {
		names, err := l.store.names(ctx, folder)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			record, err := l.store.get(ctx, folder+name)
			if err != nil && !errors.Is(err, errBadRecord) {
				return nil, err
			}
			if record != nil && record.State != Dead && record.Target.API == api {
				authors.add(record)
			}
		}
	}
	return authors, nil
}

func (a Authors) add(record *Record) {
	known := a[record.Target.Context]
	if !slices.Contains(known, record.Author) {
		a[record.Target.Context] = append(known, record.Author)
	}
}

// openFolders are in the order in which records move, so that one that moves
// meanwhile is met.
func (l *Ledger) openFolders(ctx context.Context) ([]string, error) {
	buckets, err := l.store.buckets(ctx)
	if err != nil {
		return nil, err
	}
	folders := []string{issuingPrefix}
	for _, bucket := range buckets {
		folders = append(folders, livePrefix+bucket+"/")
	}
	return append(folders, endingPrefix), nil
}
