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

type nowhere struct{}

func (nowhere) Load(context.Context) ([]byte, error) { return nil, nil }
func (nowhere) Save(context.Context, []byte) error   { return nil }

func TestMemoryIsBoundedByTheLimits(t *testing.T) {
	for endpoint, most := range map[string]int{"POST /auth/challenge": 60, "POST /tokens": 120} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, err := NewRegistry().Open(t.Context(), Key{}, nowhere{})
				require.NoError(t, err)
				e := a.pool.endpoint(endpoint)
				for range 20 * most {
					s, err := a.Acquire(t.Context(), endpoint, Wait{AtMost: 2 * time.Hour})
					require.NoError(t, err)
					s.Done()
					require.LessOrEqual(t, len(e.sent), most)
					require.LessOrEqual(t, cap(e.sent), 4*most)
				}
			})
		})
	}
}
