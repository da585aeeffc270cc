// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// upgradeStatic has a static role that was rotated at 01:00:02 with a grace of two hours, and that
// is rotated again at the end of the month.
func upgradeStatic(t *testing.T, m *upgraded) {
	read := m.StaticCreds("erp")
	require.Equal(t, m.former.values["text-static"], read["token"])
	require.Equal(t, "2000-01-01T03:00:02Z", read["previous_token_valid_until"])
	require.Equal(t, "2000-01-01T01:00:02Z", read["last_vault_rotation"])
	require.NoError(t, m.Login(m.former.values["text-previous"]))
	m.Elapse(3 * time.Hour)
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("previous")))
	require.Equal(t, 1, m.deletions("previous"))
	m.requireNoRecord("previous")
	m.Elapse(28 * Day)
	require.Equal(t, m.former.values["text-static"], m.StaticCreds("erp")["token"])
	m.requireKept("ledger/unleased/live/${static}")
	m.Elapse(2 * Day)
	require.NotEqual(t, m.former.values["text-static"], m.StaticCreds("erp")["token"])
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("static")))
	m.Must(m.Delete("static-roles/erp"))
	m.requireNoRecord("static")
	require.Empty(t, m.Stored("unleased-tokens/"+m.number("static")))
}

// upgradeBacking has an access token whose session and token are in storage.
func upgradeBacking(t *testing.T, m *upgraded) {
	read := m.AccessToken("creds/reports").Data
	require.Equal(t, m.number("session-backing"), read["session_reference_number"])
	require.Equal(t, 200, m.QueryInvoices(read["access_token"]))
	require.Zero(t, m.former.sent.count(submitToken))
	require.Zero(t, m.former.sent.count(IssueEndpoint))
	m.requireNoLogin()
	require.EqualValues(t, 3, m.Status()["unleased_tokens"])
	m.Elapse(8 * Day) // unread
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("backing")))
	require.Empty(t, m.Keys("access-"))
}
