// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnreadableRemedies(t *testing.T) {
	require.Equal(t, " The token of a live record is revoked with: vault delete <mount>/tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E",
		unreadableRemedies([]string{"ledger/issuing/x", "ledger/live/2025/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E", "config"}))
	require.Contains(t, unreadableRemedies([]string{"rotation"}), "vault write <mount>/config force=rotation")
	require.Empty(t, unreadableRemedies([]string{"config", "sessions/x"}))
}
