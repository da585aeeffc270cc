// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestToken(t *testing.T) {
	t.Run("active_until_its_lease_is_revoked", testTokenActiveUntilItsLeaseIsRevoked)
	t.Run("deletion_revokes_and_frees_the_lease", testTokenDeletionRevokesAndFreesTheLease)
	t.Run("overdue_is_revoked_by_the_reconciler", testTokenOverdueIsRevokedByTheReconciler)
	t.Run("renewal_keeps_it_active", testTokenRenewalKeepsItActive)
	t.Run("restart_keeps_sessions_and_leases", testTokenRestartKeepsSessionsAndLeases)
	t.Run("list_query_and_read", testTokenListQueryAndRead)
	t.Run("foreign_is_never_touched", testTokenForeignIsNeverTouched)
	t.Run("without_record_is_still_ours", testTokenWithoutRecordIsStillOurs)
	t.Run("lease_without_record_is_revoked", testTokenLeaseWithoutRecordIsRevoked)
	t.Run("role_names_another_context", testTokenRoleNamesAnotherContext)
}

func testTokenActiveUntilItsLeaseIsRevoked(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		require.Equal(t, "Active", issued.Data["status"])
		require.Equal(t, []string{"InvoiceRead", "InvoiceWrite"}, issued.Data["permissions"])
		require.Equal(t, enginetest.NIP, issued.Data["nip"])
		require.Equal(t, time.Hour, issued.Secret.TTL)
		require.True(t, issued.Secret.Renewable)
		require.NoError(t, m.Login(issued.Data["token"]))

		require.NoError(t, m.Revoke(m.Lease(issued)))
		m.RequireLoginRefused(issued.Data["token"])
		m.Elapse(2 * time.Second)
		require.Equal(t, "Revoked", m.StatusInKSeF(issued.Data["reference_number"]))
		require.Equal(t, 1, m.Requests("DELETE /tokens/{referenceNumber}"))
		m.RequireEmptyLedger()
	})
}

func testTokenDeletionRevokesAndFreesTheLease(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		path := "tokens/" + issued.Data["reference_number"].(string)
		m.Must(m.Delete(path))
		m.RequireLoginRefused(issued.Data["token"])

		_, err := m.Renew(m.Lease(issued), time.Hour)
		require.ErrorIs(t, err, ledger.ErrRevoked)
		before := m.Requests("DELETE /tokens/{referenceNumber}")
		require.NoError(t, m.Revoke(m.Lease(issued)))
		require.Equal(t, before, m.Requests("DELETE /tokens/{referenceNumber}"))
		m.RequireEmptyLedger()
	})
}

func testTokenOverdueIsRevokedByTheReconciler(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		m.Elapse(time.Hour + 50*time.Minute)
		require.NoError(t, m.Login(issued.Data["token"]))
		m.Elapse(15 * time.Minute)
		m.RequireLoginRefused(issued.Data["token"])
	})
}

func testTokenRenewalKeepsItActive(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		secret := m.Lease(issued)
		for range 5 {
			m.Elapse(50 * time.Minute)
			m.Must(m.Renew(secret, time.Hour))
		}
		require.NoError(t, m.Login(issued.Data["token"]))
		m.Elapse(2*time.Hour + 5*time.Minute)
		m.RequireLoginRefused(issued.Data["token"])
	})
}

func testTokenRestartKeepsSessionsAndLeases(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		logins := m.Requests("POST /auth/xades-signature")
		m.Stop()
		m.Start()
		m.Must(m.Read("creds/invoices", nil))
		require.NoError(t, m.Revoke(m.Lease(issued)))
		m.RequireLoginRefused(issued.Data["token"])
		require.Equal(t, logins, m.Requests("POST /auth/xades-signature"), "the stored session is used")
	})
}

func testTokenListQueryAndRead(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		first := m.Issue()
		second := m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Monthly report", "ttl": "2h"}))
		require.Equal(t, 2*time.Hour, second.Secret.TTL)

		listed := m.Must(m.List("tokens/"))
		require.ElementsMatch(t, []any{first.Data["reference_number"], second.Data["reference_number"]}, anyOf(listed.Data["keys"]))

		page := m.Must(m.Read("tokens", map[string]any{"status": "Active", "description": "monthly"}))
		tokens := page.Data["tokens"].([]map[string]any)
		require.Len(t, tokens, 1)
		require.Equal(t, second.Data["reference_number"], tokens[0]["reference_number"])
		require.Equal(t, []string{"InvoiceRead"}, tokens[0]["permissions"])

		one := m.Must(m.Read("tokens/"+first.Data["reference_number"].(string), nil))
		require.Equal(t, "Active", one.Data["status"])
		require.Equal(t, "live", one.Data["state"])
		require.Equal(t, "invoices", one.Data["role"])
		require.NotContains(t, one.Data, "token")
	})
}

func testTokenForeignIsNeverTouched(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		other := m.Env.Mount(&logical.InmemStorage{})
		defer other.Stop()
		other.Configure()
		theirs := other.Issue()
		text := m.Refused(m.Delete("tokens/" + theirs.Data["reference_number"].(string)))
		require.Contains(t, text, "not made by this mount")
		require.NoError(t, m.Login(theirs.Data["token"]))
	})
}

func testTokenWithoutRecordIsStillOurs(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		require.NoError(t, logical.ClearView(t.Context(), logical.NewStorageView(m.Storage, "ledger/")))
		m.Must(m.Delete("tokens/" + issued.Data["reference_number"].(string)))
		m.RequireLoginRefused(issued.Data["token"])
	})
}

func testTokenLeaseWithoutRecordIsRevoked(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		issued := m.Issue()
		require.NoError(t, logical.ClearView(t.Context(), logical.NewStorageView(m.Storage, "ledger/")))
		require.NoError(t, m.Revoke(m.Lease(issued)))
		m.RequireLoginRefused(issued.Data["token"])
	})
}

func testTokenRoleNamesAnotherContext(t *testing.T) {
	const other = "5265877635-12346"
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": other}))
		issued := m.Must(m.Read("creds/unit", nil))
		require.Equal(t, other, issued.Data["internal_id"])
		require.NotContains(t, issued.Data, "nip")
		require.NoError(t, m.Revoke(m.Lease(issued)))
	})
}

func anyOf(keys any) []any {
	var all []any
	for _, key := range keys.([]string) {
		all = append(all, key)
	}
	return all
}
