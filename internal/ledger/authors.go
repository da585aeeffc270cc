// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"slices"

	"vault-plugin-secrets-ksef/client"
)

// Authors are those whose logins have made tokens that may be alive.
type Authors map[client.Context][]string

// Authors reads the records of tokens of an API that may be alive. "" stands for
// one whom no record names. Unreadable records name neither context nor author.
func (l *Ledger) Authors(ctx context.Context, api string) (Authors, error) {
	authors := make(Authors)
	err := l.eachOpen(ctx, func(record *Record) {
		if record.Target.API == api {
			authors.add(record)
		}
	})
	return authors, err
}

func (a Authors) add(record *Record) {
	known := a[record.Target.Context]
	if !slices.Contains(known, record.Author) {
		a[record.Target.Context] = append(known, record.Author)
	}
}
