// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// loseLease makes a token that of a static role. It returns its number.
func (u *unmountable) loseLease(nonceWord string) string {
	u.T.Helper()
	number := u.Must(u.Read("creds/invoices", nil)).Data["reference_number"].(string)
	for _, key := range u.Keys("ledger/live/") {
		var record ledger.Record
		require.NoError(u.T, json.Unmarshal([]byte(u.Stored(key)), &record))
		if record.ReferenceNumber != number {
			continue
		}
		record.Nonce = nonceWord + record.Nonce[len(nonceWord):]
		record.Holder = ledger.Holder{Kind: ledger.HolderStatic, Role: "erp"}
		encoded, err := json.Marshal(record)
		require.NoError(u.T, err)
		u.Put("ledger/unleased/live/"+number, encoded)
		require.NoError(u.T, u.Storage.Delete(u.Ctx, key))
	}
	return number
}

// TestUnmountOfTokensWithoutALease has no lease that could make the disable fail.
func TestUnmountOfTokensWithoutALease(t *testing.T) {
	t.Run("revokes_them", func(t *testing.T) {
		withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
			u.loseLease("static")
			u.loseLease("import")
			_, err := u.disable()
			require.NoError(t, err)
			require.Empty(t, u.AliveTokens())
			require.NotContains(t, u.Logs.String(), "KSeF has not confirmed that these tokens are revoked")
		})
	})
	t.Run("names_what_stays", func(t *testing.T) {
		withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
			static, imported := u.loseLease("static"), u.loseLease("import")
			id := u.Status()["mount_id"].(string)
			u.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
			_, err := u.disable()
			require.NoError(t, err)
			require.Len(t, u.AliveTokens(), 2)
			const unconfirmed = `\[ERROR\].*KSeF has not confirmed that these tokens are revoked: `
			require.Regexp(t, unconfirmed+`if the mount goes, another mount's tidy/former.*mount_id=`+id+` reference_numbers=\["?`+static+`"?\]`, u.Logs.String())
			require.Regexp(t, unconfirmed+`they were imported.*mount_id=`+id+` reference_numbers=\["?`+imported+`"?\]`, u.Logs.String())
		})
	})
	t.Run("move_is_followed_by_others", func(t *testing.T) {
		withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
			u.Must(u.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
			u.Must(u.Read("static-creds/erp", nil))
			u.AccessRole("program", nil)
			u.AccessToken("creds/program")
			u.View.tainted.Store(true)
			u.rollback()
			u.View.tainted.Store(false)
			require.NoError(t, u.Login(u.Must(u.Read("static-creds/erp", nil)).Data["token"]))
			u.AccessRole("second", nil)
			u.AccessToken("creds/second")
			u.Elapse(10 * time.Minute)
			u.AccessToken("creds/program")
			require.Len(t, u.AliveTokens(), 3)
		})
	})
	t.Run("move_revokes_them", func(t *testing.T) {
		withUnmountable(t, simulator.Options{}, func(t *testing.T, u *unmountable) {
			u.loseLease("static")
			u.View.tainted.Store(true)
			u.rollback()
			u.Backend.Cleanup(u.Ctx)
			u.View.tainted.Store(false)
			require.Empty(t, u.AliveTokens())
			u.RequireEmptyLedger()
		})
	})
}
