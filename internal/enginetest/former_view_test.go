// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"regexp"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestUnleasedTokensAreNothingToFormerVersions has what decides that versions that know leased
// tokens only leave the others alone. TestFormerPlugin runs such a version.
func TestUnleasedTokensAreNothingToFormerVersions(t *testing.T) {
	formerMark := regexp.MustCompile(`\[vault:[0-9a-f]{12}:[0-9a-f]{22}\]$`)
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		m.AccessRole("reports", nil)
		m.AccessToken("creds/reports")
		tokens := m.AliveTokens()
		require.Len(t, tokens, 2)
		for _, token := range tokens {
			require.NotRegexp(t, formerMark, token.Description)
		}
		for _, folder := range []string{"ledger/issuing/", "ledger/live/", "ledger/ending/"} {
			require.Empty(t, m.Keys(folder))
		}
		require.Len(t, m.Keys("ledger/unleased/"), 2)
		require.Regexp(t, formerMark, m.Issue().Data["description"])
		require.Len(t, m.Keys("ledger/live/"), 1)
	})
}
