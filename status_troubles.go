// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/internal/budget"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// vaultGivesUp is how long Vault itself tries to end a lease: six times.
const vaultGivesUp = 10 * time.Minute

// ledgerTroubles says what of the tokens wants to be looked at.
func ledgerTroubles(pending ledger.Pending, unknown []string) (troubles []string) {
	if pending.ReviewErr != nil {
		troubles = append(troubles, fmt.Sprintf("The ledger could not be read, so what is pending may stand still: %v", pending.ReviewErr))
	}
	troubles = append(troubles, atMost(unknown, "tokens")...)
	oldest := pending.Oldest
	told := oldest != nil && oldest.Err != nil && slices.Contains(unknown, oldest.Err.Error())
	if oldest != nil && !told && (oldest.Err != nil || time.Since(pending.OldestSince) > vaultGivesUp) {
		troubles = append(troubles, oldest.Error())
	}
	return troubles
}

// maxShown bounds the tokens, or the contexts, that status names for one reason.
const maxShown = 3

// atMost returns the first sentences and how many there are besides.
func atMost(sentences []string, of string) []string {
	if len(sentences) <= maxShown {
		return sentences
	}
	return append(sentences[:maxShown:maxShown], fmt.Sprintf("The same is true of %d more %s.", len(sentences)-maxShown, of))
}

// refusedLogins names the contexts whose login KSeF has refused, one sentence each.
func refusedLogins(current *connection) (troubles []string) {
	for _, err := range current.sessions.Refusals() {
		troubles = append(troubles, err.Error())
	}
	slices.Sort(troubles)
	return troubles
}

// blockWarnings names each endpoint that KSeF has blocked, one sentence each, in the order of
// their text.
func blockWarnings(all map[budget.Key][]budget.Usage) (troubles []string) {
	for key, usages := range all {
		for _, usage := range usages {
			if !usage.BlockedUntil.IsZero() {
				troubles = append(troubles, fmt.Sprintf("KSeF has blocked %s in %s: nothing is sent there before %s.",
					usage.Endpoint, key.Context, usage.BlockedUntil.UTC().Format(time.RFC3339)))
			}
		}
	}
	slices.Sort(troubles)
	return troubles
}
