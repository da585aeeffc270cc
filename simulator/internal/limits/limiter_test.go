// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package limits_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/limits"
)

var start = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

func TestAdmit(t *testing.T) {
	windows := limits.Windows{PerSecond: 2, PerMinute: 3, PerHour: -1}
	limiter := limits.New(limits.Limits{})
	for _, step := range []struct {
		after      time.Duration
		retryAfter int // 0 when admitted
		detail     string
	}{
		{after: 0},
		{after: 0},
		{after: 500 * time.Millisecond, retryAfter: 1, detail: "2 żądań na sekundę"},
		{after: 600 * time.Millisecond, retryAfter: 11, detail: "2 żądań na sekundę"}, // extended by ten seconds
		{after: 11 * time.Second},
		{after: 30 * time.Second, retryAfter: 30, detail: "3 żądań na minutę"},
		{after: 31 * time.Second, retryAfter: 39, detail: "3 żądań na minutę"},
		{after: 70 * time.Second},
	} {
		retryAfter, detail, admitted := limiter.Admit("GET /tokens", windows, start.Add(step.after))
		require.Equal(t, step.retryAfter == 0, admitted, "after %s", step.after)
		require.Equal(t, step.retryAfter, retryAfter, "after %s", step.after)
		require.Contains(t, detail, step.detail)
	}
	_, _, admitted := limiter.Admit("POST /tokens", windows, start)
	require.True(t, admitted, "each key has its own counter")
}

func TestBlockEndsWithinAnHour(t *testing.T) {
	windows := limits.Windows{PerSecond: 1, PerMinute: -1, PerHour: -1}
	limiter := limits.New(limits.Limits{})
	_, _, admitted := limiter.Admit("key", windows, start)
	require.True(t, admitted)
	var retryAfter int
	for range 1000 {
		retryAfter, _, admitted = limiter.Admit("key", windows, start)
		require.False(t, admitted)
	}
	require.Equal(t, 3600, retryAfter)
}

func TestOverride(t *testing.T) {
	context := ksef.Identifier{Type: ksef.TypeNIP, Value: "5265877635"}
	limiter := limits.New(limits.Limits{Client: limits.Windows{PerSecond: 7}})
	changed := limits.Production()
	changed[0].Windows = limits.Windows{PerSecond: 1, PerMinute: 2, PerHour: 3}
	limiter.Override(context, changed)
	own := limiter.Of(context)
	require.Equal(t, limits.Windows{PerSecond: 1, PerMinute: 2, PerHour: 3}, own.Of(limits.GroupOnlineSession))
	require.Equal(t, 7, own.Of(limits.GroupAnonymous).PerSecond, "anonymous is not per context")
	require.Equal(t, 10, limiter.Of(ksef.Identifier{}).Of(limits.GroupOnlineSession).PerSecond)
	limiter.Reset(context)
	require.Equal(t, 10, limiter.Of(context).Of(limits.GroupOnlineSession).PerSecond)
}
