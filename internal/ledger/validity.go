// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import "time"

// leaseMargin is how much later than it was answered Vault may date a lease.
const leaseMargin = 2 * time.Second

// sameValidity is how much two answers about one token may differ: KSeF's clock is known to the
// second only.
const sameValidity = time.Minute

// LeaseLeft returns the longest lease in whole seconds that ends before a moment, even if Vault
// dates it a little later than now.
func LeaseLeft(until, now time.Time) time.Duration {
	return until.Add(-leaseMargin).Sub(now).Truncate(time.Second)
}

// learnValidity notes when KSeF ends the token by itself. It returns true where that changes the
// record. A token that ends before it is made does not exist, so that such an answer says nothing.
func (r *Record) learnValidity(until time.Time) bool {
	if !until.After(r.Created) || until.Sub(r.ValidUntil).Abs() < sameValidity {
		return false
	}
	r.ValidUntil = until.UTC().Truncate(time.Second)
	r.Deadline = earlierEnd(r.Deadline, r.ValidUntil)
	return true
}

// earlierEnd returns the earlier of two moments, of which zero is none.
func earlierEnd(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
