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
	troubles = append(troubles, atMost(maxUnknownShown, unknown)...)
	oldest := pending.Oldest
	told := oldest != nil && oldest.Err != nil && slices.Contains(unknown, oldest.Err.Error())
	if oldest != nil && !told && (oldest.Err != nil || time.Since(pending.OldestSince) > vaultGivesUp) {
		troubles = append(troubles, oldest.Error())
	}
	return troubles
}

// maxUnknownShown bounds the tokens that status names of those which KSeF does not know.
const maxUnknownShown = 3

// atMost returns the first sentences and how many there are besides.
func atMost(most int, sentences []string) []string {
	if len(sentences) <= most {
		return sentences
	}
	return append(sentences[:most:most], fmt.Sprintf("The same is true of %d more tokens.", len(sentences)-most))
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
