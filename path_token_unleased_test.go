// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

var staticHolder, accessHolder = ledger.Holder{Kind: ledger.HolderStatic, Role: "erp"}, ledger.Holder{Kind: ledger.HolderAccess, Role: "invoices"}

// issueFor has the mount make a token for a holder. It returns its number.
func issueFor(m *enginetest.Mount, holder ledger.Holder) string {
	m.T.Helper()
	if holder.Kind == ledger.HolderStatic {
		m.Must(m.Write("static-roles/"+holder.Role, map[string]any{"permissions": "InvoiceRead", "description": "Report"}))
	} else {
		m.AccessRole(holder.Role, nil)
		m.AccessToken("creds/" + holder.Role)
	}
	records, err := ksef.Ledger(m.Backend).Unleased(m.Ctx)
	require.NoError(m.T, err)
	taxpayer := client.ContextIdentifier{Type: client.ContextNIP, Value: enginetest.NIP}
	records = slices.DeleteFunc(records, func(record ledger.Record) bool {
		return record.Holder != holder || record.Target.Context != taxpayer
	})
	require.Len(m.T, records, 1)
	return records[0].ReferenceNumber
}

// issueLeased has the mount make a token with a lease. It returns its number.
func issueLeased(m *enginetest.Mount) string {
	m.T.Helper()
	issued := m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report"}))
	return issued.Data["reference_number"].(string)
}

func TestUnleasedToken(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, m *enginetest.Mount){
		"read_shows_its_holder":            testUnleasedReadShowsItsHolder,
		"deletion_names_its_role":          testUnleasedDeletionNamesItsRole,
		"deletion_of_a_released_one":       testUnleasedDeletionOfAReleasedOne,
		"status_counts_it":                 testUnleasedStatusCountsIt,
		"config_read_warns_of_unmounts":    testUnleasedConfigReadWarnsOfUnmounts,
		"config_change_names_the_roles":    testUnleasedConfigChangeNamesTheRoles,
		"events_name_its_holder":           testUnleasedEventsNameItsHolder,
		"text_lies_in_sealed_storage_only": testUnleasedTextLiesInSealedStorageOnly,
		"tidy_counts_released_ones":        testUnleasedTidyCountsReleasedOnes,
	} {
		t.Run(name, func(t *testing.T) { enginetest.WithMount(t, simulator.Options{}, test) })
	}
}

func testUnleasedReadShowsItsHolder(t *testing.T, m *enginetest.Mount) {
	for _, holder := range []ledger.Holder{staticHolder, accessHolder} {
		read := m.Must(m.Read("tokens/"+issueFor(m, holder), nil)).Data
		require.Equal(t, []any{"live", holder.Role, string(holder.Kind)}, []any{read["state"], read["role"], read["holder"]})
		require.NotContains(t, read, "lease_end")
	}
	require.NotContains(t, m.Must(m.Read("tokens/"+issueLeased(m), nil)).Data, "holder")
	require.Len(t, m.Must(m.List("tokens")).Data["keys"], 3)
}

func testUnleasedDeletionNamesItsRole(t *testing.T, m *enginetest.Mount) {
	for holder, remedy := range map[ledger.Holder]string{
		staticHolder: "is the token of the static role erp, which would only make another; " +
			"rotate it (vault write -f ksef/rotate-role/erp) or delete the role (vault delete ksef/static-roles/erp)",
		accessHolder: "is the token of the access-token role invoices, which would only make another; " +
			"rotate it (vault write -f ksef/rotate-access/invoices) or delete the role (vault delete ksef/roles/invoices)",
	} {
		number := issueFor(m, holder)
		for _, fields := range []map[string]any{nil, {"unknown_to_ksef": true}} {
			require.Contains(t, m.Refused(m.Request("delete", "tokens/"+number, fields)), remedy)
		}
		require.Equal(t, "Active", m.StatusInKSeF(number))
	}
}

func testUnleasedDeletionOfAReleasedOne(t *testing.T, m *enginetest.Mount) {
	number := issueFor(m, staticHolder)
	require.NoError(t, ksef.Ledger(m.Backend).Release(m.Ctx, number))
	require.Contains(t, m.Refused(m.Delete("tokens/"+number)), "handed back by the static role erp")
	require.Equal(t, "Active", m.StatusInKSeF(number))
	require.Equal(t, "released", m.Must(m.Read("tokens/"+number, nil)).Data["state"])
}

func testUnleasedStatusCountsIt(t *testing.T, m *enginetest.Mount) {
	require.Equal(t, 0, m.Status()["unleased_tokens"])
	issueFor(m, staticHolder)
	issueFor(m, accessHolder)
	issueLeased(m)
	status := m.Status()
	require.Equal(t, []any{2, 1}, []any{status["unleased_tokens"], status["tokens_live"]})
	require.Contains(t, m.StatusSummary(), "Live tokens: 1, tokens without a lease: 2, revocations in progress: 0.")
	require.Empty(t, m.StatusWarnings())
}

func testUnleasedConfigReadWarnsOfUnmounts(t *testing.T, m *enginetest.Mount) {
	require.Empty(t, m.Must(m.Read("config", nil)).Warnings)
	issueFor(m, staticHolder)
	issueFor(m, accessHolder)
	warnings := m.Must(m.Read("config", nil)).Warnings
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "Without a lease: 1 token of a static role and 1 token of an access-token role. Before vault secrets disable, "+
		"delete the static roles first (vault delete ksef/static-roles/<name>), delete the access-token roles first (vault delete ksef/roles/<name>), and wait")
}

func testUnleasedConfigChangeNamesTheRoles(t *testing.T, m *enginetest.Mount) {
	issueFor(m, staticHolder)
	issueFor(m, accessHolder)
	issueLeased(m)
	require.Equal(t, "config: cannot be deleted without leaving behind 1 live token and 1 token of a static role and 1 token of an access-token role, "+
		"which could then no longer be revoked; end their leases first (vault lease revoke -prefix ksef/), "+
		"delete the static roles first (vault delete ksef/static-roles/<name>), delete the access-token roles first (vault delete ksef/roles/<name>), "+
		"or give force=tokens", m.Refused(m.Delete("config")))
}

func testUnleasedEventsNameItsHolder(t *testing.T, m *enginetest.Mount) {
	issueFor(m, staticHolder)
	for _, kind := range []string{"ksef/token-issue", "ksef/token-rotate"} {
		m.RequireEvent(kind)
		for _, sent := range m.SentEvents() {
			if string(sent.Type) == kind {
				metadata := sent.Event.Metadata.AsMap()
				require.Equal(t, []any{"erp", "static"}, []any{metadata["role"], metadata["holder"]}, kind)
			}
		}
	}
}

func testUnleasedTextLiesInSealedStorageOnly(t *testing.T, m *enginetest.Mount) {
	number := issueFor(m, staticHolder)
	text, err := ksef.Ledger(m.Backend).Secret(m.Ctx, number)
	require.NoError(t, err)
	require.NoError(t, m.Login(text.Reveal()))
	sealed := m.Backend.SpecialPaths().SealWrapStorage
	for _, key := range m.Keys("") {
		if strings.Contains(m.Stored(key), text.Reveal()) {
			require.True(t, slices.ContainsFunc(sealed, func(prefix string) bool { return strings.HasPrefix(key, prefix) }), key)
		}
	}
	require.NotContains(t, m.Logs.String(), text.Reveal())

	require.NoError(t, ksef.Ledger(m.Backend).RevokeUnleased(m.Ctx, number, "the role has been deleted"))
	m.Elapse(2 * time.Second)
	require.True(t, client.IsTokenRevoked(m.Login(text.Reveal())))
	require.Empty(t, m.Keys(ledger.TextPrefix))
	m.RequireEmptyLedger()
}

func testUnleasedTidyCountsReleasedOnes(t *testing.T, m *enginetest.Mount) {
	issueFor(m, accessHolder)
	require.NoError(t, ksef.Ledger(m.Backend).Release(m.Ctx, issueFor(m, staticHolder)))
	tidied := m.Must(m.Write("tidy", map[string]any{"dry_run": false})).Data
	require.Equal(t, []any{1, 1, 0}, []any{tidied["known"], tidied["released"], tidied["foreign"]})
	require.Empty(t, tidied["orphans"])
}
