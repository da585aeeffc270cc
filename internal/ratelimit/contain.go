// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import "errors"

var errPanicked = errors.New("the queue for KSeF's request limits has failed; ask again")

// refuseAllAfterPanic keeps a panic in the timer's goroutine from ending the process of all mounts: those who
// wait get an error.
func (e *endpoint) refuseAllAfterPanic() {
	if recover() == nil {
		return
	}
	for _, w := range e.queue {
		w.refuse(errPanicked)
	}
	e.queue = nil
}
