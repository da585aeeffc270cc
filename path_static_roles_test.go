// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// staticToken reads the token of a static role and remembers it as a secret.
func staticToken(m *enginetest.Mount, name string) map[string]any {
	m.T.Helper()
	read := m.Must(m.Read("static-creds/"+name, nil))
	require.Nil(m.T, read.Secret, "no lease")
	return read.Data
}

func TestStaticRole(t *testing.T) {
	write := func(m *enginetest.Mount, fields map[string]any) {
		m.T.Helper()
		all := map[string]any{"permissions": "InvoiceRead"}
		for field, value := range fields {
			all[field] = value
		}
		m.Must(m.Write("static-roles/erp", all))
	}
	t.Run("written_and_read", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, map[string]any{"rotation_period": "720h", "grace_period": "2h"})
			require.Equal(t, map[string]any{
				"permissions": []string{"InvoiceRead"}, "description": "Static role erp", "rotation_period": int64(2592000),
				"grace_period": int64(7200), "disable_automated_rotation": false, "allowed_ips": []string{},
			}, m.Must(m.Read("static-roles/erp", nil)).Data)
			require.Equal(t, []string{"erp"}, m.Must(m.List("static-roles/")).Data["keys"])
			read := staticToken(m, "erp")
			require.NoError(t, m.Login(read["token"]))
			require.Equal(t, enginetest.NIP, read["nip"])
			require.InDelta(t, 2592000, read["ttl"], 60)
			require.EqualValues(t, 2592000, read["rotation_period"])
			require.NotContains(t, read, "previous_token_valid_until")
			require.Regexp(t, `^Static role erp \[vault:[0-9a-f]{12}:static[0-9a-f]{16}\]$`, m.AliveTokens()[0].Description)
			sent := m.AllRequests()
			for range 1000 {
				require.Equal(t, read["token"], m.Must(m.Read("static-creds/erp", nil)).Data["token"])
			}
			require.Equal(t, sent, m.AllRequests())
		})
	})
	t.Run("rotated_by_period_with_grace", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, map[string]any{"rotation_period": "24h", "grace_period": "2h"})
			first := staticToken(m, "erp")
			m.Elapse(24*time.Hour + 5*time.Minute)
			second := staticToken(m, "erp")
			require.NotEqual(t, first["reference_number"], second["reference_number"])
			require.NotEmpty(t, second["previous_token_valid_until"])
			require.NoError(t, m.Login(first["token"]), "the grace is not over")
			m.Elapse(2 * time.Hour)
			m.RequireLoginRefused(first["token"])
			require.NoError(t, m.Login(second["token"]))
			require.NotContains(t, staticToken(m, "erp"), "previous_token_valid_until")
		})
	})
	t.Run("rotated_by_hand", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, map[string]any{"rotation_period": "24h"})
			first := staticToken(m, "erp")
			m.Elapse(time.Hour)
			m.Must(m.Write("rotate-role/erp", nil))
			second := staticToken(m, "erp")
			require.NotEqual(t, first["token"], second["token"])
			require.InDelta(t, 23*3600, second["ttl"], 120, "the schedule stays")
			require.NoError(t, m.Login(first["token"]))
			m.Must(m.Write("rotate-role/erp", map[string]any{"revoke_previous": true}))
			m.RequireLoginRefused(first["token"])
			m.RequireLoginRefused(second["token"])
			require.NoError(t, m.Login(staticToken(m, "erp")["token"]))
			require.Contains(t, m.Refused(m.Write("rotate-role/none", nil)), `the static role "none" does not exist`)
		})
	})
	t.Run("change_of_permissions_rotates", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, map[string]any{"grace_period": "10m"})
			first := staticToken(m, "erp")
			write(m, map[string]any{"permissions": "InvoiceWrite"})
			second := staticToken(m, "erp")
			require.Equal(t, []string{"InvoiceWrite"}, second["permissions"])
			m.Elapse(15 * time.Minute)
			m.RequireLoginRefused(first["token"])
		})
	})
	t.Run("deleted", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, nil)
			first := staticToken(m, "erp")
			require.Nil(t, m.Must(m.Delete("static-roles/erp")))
			m.RequireLoginRefused(first["token"])
			require.Contains(t, m.Refused(m.Read("static-creds/erp", nil)), "does not exist")
			m.RequireEmptyLedger()
		})
	})
	t.Run("deleted_and_kept", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, nil)
			first := staticToken(m, "erp")
			kept := m.Must(m.Request("delete", "static-roles/erp", map[string]any{"keep": true}))
			require.Equal(t, []string{first["reference_number"].(string)}, kept.Data["reference_numbers"])
			require.Contains(t, kept.Warnings[0], "tidy/former")
			m.Must(m.Write("tidy", map[string]any{"dry_run": false}))
			m.Elapse(48 * time.Hour)
			require.NoError(t, m.Login(first["token"]))
			require.EqualValues(t, 0, m.Status()["unleased_tokens"])
		})
	})
	t.Run("token_that_KSeF_refuses_leaves_no_role", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Fault(simulator.Fault{Endpoint: "POST /tokens", Kind: simulator.FaultStatus, Status: 400})
			refusal := m.Refused(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
			require.Contains(t, refusal, "the static role was not kept")
			require.Nil(t, m.Must(m.Read("static-roles/erp", nil)))
			m.RequireEmptyLedger()
		})
	})
	t.Run("access_token", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			write(m, nil)
			read := m.AccessToken("static-creds/erp/access-token")
			require.NotContains(t, read.Data, "token")
			require.Equal(t, 200, m.QueryInvoices(read.Data["access_token"]))
			require.Len(t, m.AliveTokens(), 1)
		})
	})
	t.Run("fields", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for _, bad := range []struct {
				fields  map[string]any
				refusal string
			}{
				{map[string]any{"rotation_period": "5m"}, "rotation_period: is out of range"},
				{map[string]any{"rotation_period": "24h", "rotation_schedule": "0 3 * * *"}, "rotation_schedule: is given together"},
				{map[string]any{"rotation_schedule": "every day"}, "rotation_schedule: is not in cron's form"},
				{map[string]any{"rotation_window": "2h"}, "rotation_window: is given without rotation_schedule"},
				{map[string]any{"rotation_schedule": "0 3 * * *", "rotation_window": "30m"}, "rotation_window: is out of range"},
				{map[string]any{"grace_period": "9000h"}, "grace_period: is out of range"},
				{map[string]any{"nip": otherSubjectNIP}, "nip: names 1111111111, which config does not allow; add it to allowed_contexts of config"},
				{map[string]any{"permissions": "Everything"}, "permissions: has at place 1"},
				{map[string]any{"keep": true}, "keep: "},
			} {
				fields := bad.fields
				if fields["permissions"] == nil {
					fields["permissions"] = "InvoiceRead"
				}
				require.Contains(t, m.Refused(m.Write("static-roles/bad", fields)), bad.refusal)
			}
			require.Empty(t, m.KSeF.State().Tokens)
		})
	})
}

// twoMounts are mounts for the same taxpayer.
func twoMounts(t *testing.T, env *enginetest.Env) (one, two *enginetest.Mount) {
	one, two = env.Mount(&logical.InmemStorage{}), env.Mount(&logical.InmemStorage{})
	for _, m := range []*enginetest.Mount{one, two} {
		t.Cleanup(m.Stop)
		m.Configure()
	}
	return one, two
}

func TestStaticImport(t *testing.T) {
	// made is a token that was made by hand, in another mount.
	made := func(m *enginetest.Mount, permissions string) (text, number string) {
		m.T.Helper()
		issued := m.Must(m.Write("tokens", map[string]any{"permissions": permissions, "description": "Made by hand"}))
		m.Remember(issued.Data["token"].(string))
		return issued.Data["token"].(string), issued.Data["reference_number"].(string)
	}
	t.Run("taken_over", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			other, m := twoMounts(t, env)
			text, number := made(other, "InvoiceRead,InvoiceWrite")
			written := m.Must(m.Write("static-roles/erp/import", map[string]any{"token": " " + text + "\n"}))
			require.Contains(t, written.Warnings[0], "without a rotation of its own")
			read := staticToken(m, "erp")
			require.Equal(t, text, read["token"])
			require.Equal(t, number, read["reference_number"])
			require.ElementsMatch(t, []string{"InvoiceRead", "InvoiceWrite"}, read["permissions"])
			require.Nil(t, m.Must(m.Write("static-roles/erp/import", map[string]any{"token": text})), "again")
			require.Contains(t, m.Refused(m.Write("static-roles/second/import", map[string]any{"token": text})), "token: ")
			require.Nil(t, m.Must(m.Read("static-roles/second", nil)))
			m.Must(m.Write("rotate-role/erp", map[string]any{"revoke_previous": true}))
			m.RequireLoginRefused(text)
			require.NoError(t, m.Login(staticToken(m, "erp")["token"]))
		})
	})
	t.Run("rotated_at_once", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			other, m := twoMounts(t, env)
			text, _ := made(other, "InvoiceRead")
			m.Must(m.Write("static-roles/erp/import", map[string]any{"token": text, "rotate": true}))
			require.NotEqual(t, text, staticToken(m, "erp")["token"])
			m.Elapse(2 * time.Hour)
			m.RequireLoginRefused(text)
		})
	})
	t.Run("kept_by_a_role_before", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("static-roles/before", map[string]any{"permissions": "InvoiceRead"}))
			text := staticToken(m, "before")["token"]
			m.Must(m.Request("delete", "static-roles/before", map[string]any{"keep": true}))
			m.Must(m.Write("static-roles/erp/import", map[string]any{"token": text}))
			require.Equal(t, "Static role erp", m.Must(m.Read("static-roles/erp", nil)).Data["description"], "without the mark of the token before")
		})
	})
	t.Run("refused", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			other, m := twoMounts(t, env)
			m.Must(m.Write("static-roles/writer", map[string]any{"permissions": "InvoiceWrite"}))
			text, _ := made(other, "InvoiceRead")
			require.Contains(t, m.Refused(m.Write("static-roles/writer/import", map[string]any{"token": text})), "token: has the permissions InvoiceRead")
			sent := m.AllRequests()
			for _, not := range []string{"", "secret", text[:len(text)-1], "20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E|nip-1234567890|" + text[len(text)-64:]} {
				refusal := m.Refused(m.Write("static-roles/erp/import", map[string]any{"token": not}))
				require.Contains(t, refusal, "token: ")
			}
			require.Equal(t, sent, m.AllRequests(), "nothing is sent")
			dead := m.Must(other.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "To be revoked"}))
			require.NoError(t, other.Revoke(other.Lease(dead)))
			refusal := m.Refused(m.Write("static-roles/erp/import", map[string]any{"token": dead.Data["token"]}))
			require.Contains(t, refusal, "token: is not accepted by KSeF (450")
			require.Contains(t, m.Refused(other.Write("static-roles/own/import", map[string]any{"token": text})), "which has a lease")
			require.Equal(t, []string{"writer"}, m.Must(m.List("static-roles/")).Data["keys"])
		})
	})
}

func TestStaticImportThatFails(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		disk := &enginetest.FlakyStorage{Storage: &logical.InmemStorage{}}
		other, m := env.Mount(&logical.InmemStorage{}), env.Mount(disk)
		defer other.Stop()
		defer m.Stop()
		other.Configure()
		m.Configure()
		made := other.Must(other.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Made by hand"}))
		token := made.Data["token"].(string)
		m.Remember(token)
		disk.Fail(enginetest.StorageUnconfirmed, "put ledger/unleased/")
		_, err := m.Write("static-roles/erp/import", map[string]any{"token": token})
		require.Error(t, err)
		disk.Fail(enginetest.StorageWorks, "")
		m.Stop()
		m.Start()
		m.Elapse(time.Hour) // the token has a lease in the other mount
		require.NoError(t, m.Login(token), "a program has the token: it is not revoked")
		if role := m.Must(m.Read("static-roles/erp", nil)); role == nil {
			require.EqualValues(t, 0, m.Status()["unleased_tokens"])
		}
	})
}

func TestStaticTokenThatCannotBeHadIsA503(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		for range 2 {
			token := m.AliveTokens()[0].ReferenceNumber
			m.RevokeAs(m.AccessToken("static-creds/erp/access-token").Data["access_token"], token)
			m.Stop()
			m.Start()
			_, _ = m.Read("static-creds/erp", nil)
		}
		_, err := m.Read("static-creds/erp", nil)
		require.ErrorContains(t, err, "has no token at the moment")
		coded, hasCode := err.(logical.HTTPCodedError) //nolint:errorlint // as Vault asks
		require.True(t, hasCode)
		require.Equal(t, http.StatusServiceUnavailable, coded.Code())
	})
}
