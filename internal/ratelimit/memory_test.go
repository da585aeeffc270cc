// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type noJournal struct{}

func (noJournal) Load(context.Context) ([]byte, error) { return nil, nil }
func (noJournal) Save(context.Context, []byte) error   { return nil }

func TestMemoryIsBoundedByTheLimits(t *testing.T) {
	for endpoint, most := range map[string]int{"POST /auth/challenge": 60, "POST /tokens": 120} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, err := NewRegistry().Open(t.Context(), Key{}, noJournal{})
				require.NoError(t, err)
				e := l.pool.endpoint(endpoint)
				for range 20 * most {
					p, err := l.Acquire(t.Context(), endpoint, Wait{AtMost: 2 * time.Hour})
					require.NoError(t, err)
					p.Done()
					require.LessOrEqual(t, len(e.sent), most)
					require.LessOrEqual(t, cap(e.sent), 4*most)
				}
			})
		})
	}
}
