// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

// TestMarginCoversAFastClock sends as fast as the windows allow by a clock that is fast against
// KSeF's. 500 ppm is as much as NTP slews.
func TestMarginCoversAFastClock(t *testing.T) {
	for _, partsPerMillion := range []time.Duration{0, 500, 1000} {
		t.Run(fmt.Sprintf("%d ppm", partsPerMillion), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, ratelimit.NewRegistry(), &memory{})
				begin := time.Now()
				var seen []request
				for range 300 {
					permit := acquire(t, l, ratelimit.Wait{AtMost: 2 * time.Hour})
					passed := time.Since(begin)
					at := begin.Add(passed - passed*partsPerMillion/1_000_000)
					seen = append(seen, request{at, at})
					permit.Done()
				}
				for _, s := range spans(ratelimit.StandardLimits()) {
					require.Equal(t, s.limit, fullest(seen, s.length), s.name)
				}
			})
		})
	}
}

// TestMarginHasAFixedPart measures by how much a window reopens after KSeF's own.
func TestMarginHasAFixedPart(t *testing.T) {
	for kept, limits := range map[time.Duration]ratelimit.Limits{keptSecond: {PerSecond: 1}, keptMinute: {PerMinute: 1}, keptHour: {PerHour: 1}} {
		t.Run(kept.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, ratelimit.NewRegistry(), &memory{})
				l.SetLimits(revoke, limits)
				send(t, l, 1)
				require.Equal(t, kept, time.Until(l.NextPermit(revoke, 0)))
			})
		})
	}
}
