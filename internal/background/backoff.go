// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package background

import (
	"math/rand/v2"
	"time"
)

// Backoff doubles a pause with each attempt, from the shortest to the longest.
type Backoff struct {
	Shortest, Longest time.Duration
}

// Exact returns the pause after the given number of earlier attempts.
func (b Backoff) Exact(attempts int) time.Duration {
	pause := b.Shortest
	for ; attempts > 0 && pause < b.Longest; attempts-- {
		pause *= 2
	}
	return min(pause, b.Longest)
}

// Jittered returns Exact spread over its upper half, so that what has failed together is not
// repeated together.
func (b Backoff) Jittered(attempts int) time.Duration {
	whole := b.Exact(attempts)
	return whole/2 + rand.N(whole/2+1) //nolint:gosec // spreads load, guards nothing
}
