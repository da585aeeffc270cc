// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"fmt"
	"slices"
	"time"
)

// replacedShown is how long a replacement is among the troubles.
const replacedShown = 24 * time.Hour

// troubles are what status shows of a holder.
type troubles struct {
	failures      int
	lastError     string
	retryAt       time.Time
	replaced      time.Time
	replacedToken string
	neverActive   bool
}

func (s *state) troubles() troubles {
	return troubles{failures: s.Failures, lastError: s.LastError, retryAt: s.RetryAt, replaced: s.Replaced, replacedToken: s.ReplacedToken, neverActive: s.ReplacedNeverActive}
}

// Troubles returns a sentence for each rotation that fails and each token that was replaced within
// the last day, in order. It reads no storage.
func (h *Holders) Troubles() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for key, holder := range h.holders {
		all = append(all, holder.troubles.sentences(key)...)
	}
	slices.Sort(all)
	return all
}

func (t troubles) sentences(key Key) (all []string) {
	if t.failures > 0 {
		all = append(all, fmt.Sprintf("%s gets no new token, the next attempt is about %s: %s",
			key, t.retryAt.UTC().Format(time.RFC3339), t.lastError))
	}
	if !t.replaced.IsZero() && time.Since(t.replaced) < replacedShown {
		cause := "KSeF no longer accepted it: a reader of the token, or another holder of its rights, may have revoked it"
		if t.neverActive {
			cause = "KSeF had not activated it"
		}
		all = append(all, fmt.Sprintf("%s has had its token %s replaced at %s, since %s", key, t.replacedToken, t.replaced.UTC().Format(time.RFC3339), cause))
	}
	return all
}
