// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestQueueTimerPanic breaks the queue, so that the timer's goroutine panics.
func TestQueueTimerPanic(t *testing.T) {
	waiting := &waiter{done: make(chan struct{})}
	e := &endpoint{mu: &sync.Mutex{}, queue: []*waiter{nil, waiting}}
	require.NotPanics(t, e.onTimer)
	<-waiting.done
	require.ErrorIs(t, waiting.err, errPanicked)
	require.Empty(t, e.queue)
}
