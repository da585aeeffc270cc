// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestRoleLimits(t *testing.T) {
	t.Run("written_and_read", testRoleLimitsWrittenAndRead)
	t.Run("refuse_before_anything_is_sent", testRoleLimitsRefuseBeforeAnythingIsSent)
	t.Run("loop_of_reads_and_revocations", testRoleLimitsLoopOfReadsAndRevocations)
	t.Run("entity_or_display_name", testRoleLimitsEntityOrDisplayName)
	t.Run("outlast_a_restart", testRoleLimitsOutlastARestart)
}

func testRoleLimitsWrittenAndRead(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		limits := func() []any {
			read := m.Must(m.Read("roles/invoices", nil)).Data
			return []any{read["max_live"], read["max_live_per_entity"], read["max_per_hour"]}
		}
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "max_live": 9, "max_live_per_entity": "2", "max_per_hour": 30}))
		require.Equal(t, []any{9, 2, 30}, limits())
		m.Must(m.Write("roles/invoices", map[string]any{"ttl": "1h", "max_live": 10, "max_live_per_entity": nil}))
		require.Equal(t, []any{10, 0, 30}, limits())
		for _, field := range []string{"max_live", "max_live_per_entity", "max_per_hour"} {
			require.Contains(t, m.Refused(m.Write("roles/invoices", map[string]any{field: -1})), field+": is negative")
		}
		require.Equal(t, []any{10, 0, 30}, limits())
	})
}

func testRoleLimitsRefuseBeforeAnythingIsSent(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_live": 1}))
		first := m.Must(m.Read("creds/invoices", nil))
		sent, stored := m.AllRequests(), m.Keys("")
		refusal := m.Refused(m.Read("creds/invoices", nil))
		require.Contains(t, refusal, "max_live: is 1, and the role invoices in Nip:"+enginetest.NIP)
		require.Contains(t, refusal, "has 1 token issuing, live or revoking; revoke a token that is not needed any more")
		require.Equal(t, sent, m.AllRequests())
		require.Equal(t, stored, m.Keys(""))

		m.Must(m.Write("roles/reports", map[string]any{"permissions": "InvoiceRead", "max_live": 1}))
		m.Must(m.Read("creds/reports", nil))
		m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report"}))
		m.Must(m.Write("roles/invoices", map[string]any{"internal_id": enginetest.UnitID}))
		m.Must(m.Read("creds/invoices", nil))
		m.Must(m.Write("roles/invoices", map[string]any{"internal_id": nil}))
		m.Refused(m.Read("creds/invoices", nil))
		require.NoError(t, m.Revoke(m.Lease(first)))
		m.Must(m.Read("creds/invoices", nil))
	})
}

func testRoleLimitsLoopOfReadsAndRevocations(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_per_hour": 5}))
		issued := 0
		for range 8 {
			response, err := m.Read("creds/invoices", nil)
			require.NoError(t, err)
			if response.IsError() {
				require.Contains(t, response.Error().Error(), "max_per_hour: is 5, and the role invoices in Nip:"+enginetest.NIP)
				continue
			}
			issued++
			require.NoError(t, m.Revoke(m.Lease(response)))
		}
		require.Equal(t, 5, issued)
		require.Equal(t, 5, m.Requests("POST /tokens"))
		m.Elapse(time.Hour)
		m.Must(m.Read("creds/invoices", nil))
	})
}

func testRoleLimitsEntityOrDisplayName(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_live_per_entity": 1}))
		read := func(entityID, displayName string) (*logical.Response, error) {
			response, err := m.Backend.HandleRequest(t.Context(), &logical.Request{
				Operation: logical.ReadOperation, Path: "creds/invoices", Storage: m.Storage, EntityID: entityID, DisplayName: displayName,
			})
			if response != nil && response.Secret != nil {
				m.Remember(response.Data["token"].(string))
			}
			return response, err
		}
		m.Must(read("e1", "approle-erp"))
		require.Contains(t, m.Refused(read("e1", "another")), "max_live_per_entity: is 1")
		m.Must(read("e2", "approle-erp"))
		m.Must(read("", "approle-erp"))
		require.Contains(t, m.Refused(read("", "approle-erp")), "for the display name approle-erp;")
		m.Must(read("", "root"))
	})
}

func testRoleLimitsOutlastARestart(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		m := env.Mount(&logical.InmemStorage{})
		m.Configure()
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_live_per_entity": 1, "max_per_hour": 2}))
		m.Must(m.Read("creds/invoices", nil))
		m.Stop()
		m = env.Mount(m.Storage)
		defer m.Stop()
		require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "max_live_per_entity: is 1")
		m.Must(m.Write("roles/invoices", map[string]any{"max_live_per_entity": 0}))
		m.Must(m.Read("creds/invoices", nil))
		require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "max_per_hour: is 2")
	})
}
