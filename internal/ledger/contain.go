// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"time"

	"vault-plugin-secrets-ksef/internal/background"
)

// panicPause is the pause before a goroutine goes on that has panicked.
const panicPause = 10 * time.Second

// keepRunning runs f in a goroutine of the ledger until it returns. Where it panics, it is run
// again after a pause: the process serves other mounts too.
func (l *Ledger) keepRunning(f func()) {
	l.work.Go(func() {
		for l.panics(f) && background.Sleep(l.ctx, panicPause) {
		}
	})
}

func (l *Ledger) panics(f func()) bool {
	var err error
	func() {
		defer l.contain(&err)
		f()
	}()
	return err != nil
}

// containEvents keeps the receiver of events from ending what the ledger is in the middle of.
func (l *Ledger) containEvents(receive func(Event)) func(Event) {
	return func(event Event) { l.panics(func() { receive(event) }) }
}
