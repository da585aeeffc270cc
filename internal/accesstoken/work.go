// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

// work is what callers wait for that belongs to Tokens and goes on without them.
type work struct {
	done chan struct{}
	err  error // to be read once done is closed
}

func newWork() *work { return &work{done: make(chan struct{})} }

func (w *work) end(err error) {
	w.err = err
	close(w.done)
}
