// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAnIssuedTokenLogsInUntilItsLeaseIsRevoked(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		require.Equal(t, "Active", issued.Data["status"])
		require.Equal(t, []string{"InvoiceRead", "InvoiceWrite"}, issued.Data["permissions"])
		require.Equal(t, testNIP, issued.Data["nip"])
		require.Equal(t, time.Hour, issued.Secret.TTL)
		require.True(t, issued.Secret.Renewable)
		require.NoError(t, m.login(issued.Data["token"]))

		require.NoError(t, m.revoke(m.lease(issued)))
		m.requireLoginRefused(issued.Data["token"])
		m.elapse(2 * time.Second)
		require.Equal(t, "Revoked", m.statusInKSeF(issued.Data["reference_number"]))
		require.Equal(t, 1, m.requests("DELETE /tokens/{referenceNumber}"))
		m.requireEmptyLedger()
	})
}

func TestAnIssuedTokenDiesWhenItIsDeletedAndItsLeaseThenEndsWithoutKSeF(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		path := "tokens/" + issued.Data["reference_number"].(string)
		m.must(m.delete(path))
		m.requireLoginRefused(issued.Data["token"])

		_, err := m.renew(m.lease(issued), time.Hour)
		require.ErrorIs(t, err, ledger.ErrRevoked)
		before := m.requests("DELETE /tokens/{referenceNumber}")
		require.NoError(t, m.revoke(m.lease(issued)))
		require.Equal(t, before, m.requests("DELETE /tokens/{referenceNumber}"))
		m.requireEmptyLedger()
	})
}

func TestATokenThatVaultNeverRevokesIsRevokedByThePump(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		m.elapse(time.Hour + 50*time.Minute)
		require.NoError(t, m.login(issued.Data["token"]))
		m.elapse(15 * time.Minute)
		m.requireLoginRefused(issued.Data["token"])
	})
}

func TestARenewedLeaseKeepsItsTokenAlive(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		secret := m.lease(issued)
		for range 5 {
			m.elapse(50 * time.Minute)
			m.must(m.renew(secret, time.Hour))
		}
		require.NoError(t, m.login(issued.Data["token"]))
		m.elapse(2*time.Hour + 5*time.Minute)
		m.requireLoginRefused(issued.Data["token"])
	})
}

func TestARestartGoesOnWithTheSessionAndTheLeases(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		logins := m.requests("POST /auth/xades-signature")
		m.stop()
		m.start()
		m.must(m.read("creds/invoices", nil))
		require.NoError(t, m.revoke(m.lease(issued)))
		m.requireLoginRefused(issued.Data["token"])
		require.Equal(t, logins, m.requests("POST /auth/xades-signature"), "the stored session is used")
	})
}

func TestTokensAreListedQueriedAndRead(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		first := m.issue()
		second := m.must(m.write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Monthly report", "ttl": "2h"}))
		require.Equal(t, 2*time.Hour, second.Secret.TTL)

		listed := m.must(m.list("tokens/"))
		require.ElementsMatch(t, []any{first.Data["reference_number"], second.Data["reference_number"]}, anyOf(listed.Data["keys"]))

		page := m.must(m.read("tokens", map[string]any{"status": "Active", "description": "monthly"}))
		tokens := page.Data["tokens"].([]map[string]any)
		require.Len(t, tokens, 1)
		require.Equal(t, second.Data["reference_number"], tokens[0]["reference_number"])
		require.Equal(t, []string{"InvoiceRead"}, tokens[0]["permissions"])

		one := m.must(m.read("tokens/"+first.Data["reference_number"].(string), nil))
		require.Equal(t, "Active", one.Data["status"])
		require.Equal(t, "live", one.Data["state"])
		require.Equal(t, "invoices", one.Data["role"])
		require.NotContains(t, one.Data, "token")
	})
}

func TestAForeignTokenIsNeverTouched(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		other := m.env.mount(&logical.InmemStorage{})
		defer other.stop()
		other.configure()
		theirs := other.issue()
		text := m.refused(m.delete("tokens/" + theirs.Data["reference_number"].(string)))
		require.Contains(t, text, "not made by this mount")
		require.NoError(t, m.login(theirs.Data["token"]))
	})
}

func TestATokenThatTheLedgerLostIsStillOurs(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		require.NoError(t, logical.ClearView(t.Context(), logical.NewStorageView(m.storage, "ledger/")))
		m.must(m.delete("tokens/" + issued.Data["reference_number"].(string)))
		m.requireLoginRefused(issued.Data["token"])
	})
}

func TestALeaseWithoutItsRecordIsRevokedAllTheSame(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		issued := m.issue()
		require.NoError(t, logical.ClearView(t.Context(), logical.NewStorageView(m.storage, "ledger/")))
		require.NoError(t, m.revoke(m.lease(issued)))
		m.requireLoginRefused(issued.Data["token"])
	})
}

func TestARoleMayNameAnotherContext(t *testing.T) {
	const other = "5265877635-12346"
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		m.must(m.write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": other}))
		issued := m.must(m.read("creds/unit", nil))
		require.Equal(t, other, issued.Data["internal_id"])
		require.NotContains(t, issued.Data, "nip")
		require.NoError(t, m.revoke(m.lease(issued)))
	})
}

func anyOf(keys any) []any {
	var all []any
	for _, key := range keys.([]string) {
		all = append(all, key)
	}
	return all
}

// requireEmptyLedger says that nothing is left behind.
func (m *mount) requireEmptyLedger() {
	m.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(m.t.Context(), m.storage, "ledger/")
	require.NoError(m.t, err)
	require.Empty(m.t, keys)
}
