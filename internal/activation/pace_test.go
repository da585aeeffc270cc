// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package activation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// activate plays the wait for a token that becomes Active after the delay, and returns how long it
// took and how many polls.
func activate(p *pace, delay time.Duration) (age time.Duration, polls int) {
	since := time.Now()
	w := &waiter{since: since, end: since.Add(time.Minute)}
	for {
		w.lastPoll = p.next(w)
		polls++
		if age = w.lastPoll.Sub(since); age >= delay {
			break
		}
		w.pendingAt = age
	}
	if sample, ok := p.sample(w, age); ok {
		p.update([]time.Duration{sample})
	}
	return age, polls
}

func TestPace(t *testing.T) {
	t.Run("follows KSeF as it slows down and speeds up", func(t *testing.T) {
		p := newPace()
		for _, delay := range []time.Duration{4 * time.Second, 500 * time.Millisecond, 8 * time.Second, time.Second} {
			for range 200 {
				activate(&p, delay)
			}
			age, polls := activate(&p, delay)
			require.LessOrEqual(t, age-delay, 500*time.Millisecond)
			require.LessOrEqual(t, polls, 2)
		}
	})
	t.Run("follows within a dozen reads", func(t *testing.T) {
		p := newPace()
		for range 40 {
			activate(&p, 9*time.Second)
		}
		for range 12 {
			activate(&p, time.Second)
		}
		for range 20 {
			age, _ := activate(&p, time.Second)
			require.LessOrEqual(t, age, 1500*time.Millisecond)
		}
	})
	t.Run("learns little from one slow token", func(t *testing.T) {
		p := newPace()
		for range 50 {
			for range 9 {
				age, _ := activate(&p, time.Second)
				require.LessOrEqual(t, age, 1800*time.Millisecond)
			}
			_, polls := activate(&p, 30*time.Second)
			require.LessOrEqual(t, polls, 20)
		}
	})
	t.Run("polls before the end of a short wait", func(t *testing.T) {
		p := pace{expected: longestExpected}
		now := time.Now()
		require.Equal(t, now.Add(1500*time.Millisecond), p.next(&waiter{since: now, end: now.Add(2 * time.Second)}))
	})
}
