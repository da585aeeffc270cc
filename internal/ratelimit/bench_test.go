// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit_test

import (
	"testing"

	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// A request with a free permit, its share of the journal's writes included.
func BenchmarkAcquireDone(b *testing.B) {
	for name, limits := range map[string]ratelimit.Limits{
		"NoLimit":       {},
		"120InEachSpan": {PerSecond: 120, PerMinute: 120, PerHour: 120},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var l *ratelimit.Limiter
			for i := 0; b.Loop(); i++ {
				if i%120 == 0 {
					l = open(b, ratelimit.NewRegistry(), &memory{})
					l.SetLimits(revoke, limits)
				}
				p, err := l.Acquire(ctx(), revoke, now)
				if err != nil {
					b.Fatal(err)
				}
				p.Done()
			}
		})
	}
}
