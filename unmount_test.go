// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestGlobalLimit(t *testing.T) {
	t.Run("says when a revocation can go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newLoaded(t)
			api, err := client.New(client.Config{URL: testAPI})
			require.NoError(t, err)
			b.connection.replace(&connection{client: api, config: &config{URL: testAPI, Context: ownTaxpayer}})
			global := client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 1, PerHour: -1}}
			require.NoError(t, b.limiters.SetLimits(t.Context(), testAPI, ownTaxpayer, global))
			permit, err := b.limiters.For(testAPI, ownTaxpayer, ratelimit.Wait{}).Admit(t.Context(), client.EndpointQueryTokens)
			require.NoError(t, err)
			require.NoError(t, permit.Begin(t.Context()))
			permit.Done(0)
			require.Greater(t, time.Until(b.lastRevocation(1)), 50*time.Second)
		})
	})
}
