// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"os"
	"strings"
	"time"
)

// clockAllowance is how far ahead of another node's clock this one may be without shortening what
// that node has recorded. It costs as much after each change of node: windows and blocks last so
// much longer.
const clockAllowance = 2 * time.Minute

// clockID tells by whose clock a time was recorded: it changes with the machine and its every
// start. It is empty where it cannot be known.
func clockID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// elapsed is the time since a record was saved, as far as it is certain. Where the clock has been
// set back, that is none.
func (r *Registry) elapsed(rec record, now time.Time) time.Duration {
	elapsed := now.Sub(time.UnixMilli(rec.Saved))
	if rec.Clock == "" || rec.Clock != r.clock {
		elapsed -= clockAllowance
	}
	return max(0, elapsed)
}
