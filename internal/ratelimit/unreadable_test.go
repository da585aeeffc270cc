// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"testing"
	"testing/synctest"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

// TestOpenFullBesideOthers opens a limiter whose journal is damaged beside another one.
func TestOpenFullBesideOthers(t *testing.T) {
	for name, shared := range map[string]bool{
		"that was not in use when it sent": false,
		"whose journal counts it":          true,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, other := ratelimit.NewRegistry(), &memory{}
				if shared {
					open(t, r, other)
				}
				send(t, open(t, r, &memory{}), 24)

				r = ratelimit.NewRegistry()
				open(t, r, other.afterCrash())
				l, err := r.OpenFull(ctx(), key, &memory{data: []byte("damaged")}, []string{revoke})
				require.NoError(t, err)
				used := usage(t, l, revoke).Hour.Used
				if shared {
					require.Less(t, used, 24+2*8)
				} else {
					require.Equal(t, ratelimit.StandardLimits().PerHour, used)
				}
			})
		})
	}
}
