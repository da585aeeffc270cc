// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"slices"

	"vault-plugin-secrets-ksef/client"
)

// Subjects are those whose logins have made tokens that may be alive.
type Subjects map[client.ContextIdentifier][]string

// Subjects reads the records of tokens of an API that may be alive. "" stands for one whom no
// record names. Unreadable records name neither context nor author.
func (l *Ledger) Subjects(ctx context.Context, api string) (Subjects, error) {
	subjects := make(Subjects)
	err := l.eachOpen(ctx, func(record *Record) {
		if record.Target.API == api {
			subjects.add(record)
		}
	})
	return subjects, err
}

func (a Subjects) add(record *Record) {
	known := a[record.Target.Context]
	if !slices.Contains(known, record.Subject) {
		a[record.Target.Context] = append(known, record.Subject)
	}
}
