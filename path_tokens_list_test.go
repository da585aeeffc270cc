// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"fmt"
	"testing"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestTokensList(t *testing.T) {
	t.Run("tells_who_holds_a_token", testTokensListTellsWhoHoldsAToken)
	t.Run("pages_and_filters", testTokensListPagesAndFilters)
	t.Run("refusals", testTokensListRefusals)
}

func testTokensListTellsWhoHoldsAToken(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		require.Empty(t, m.Must(m.List("tokens/")).Data, "which Vault answers with a 404")
		m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": enginetest.UnitID, "ttl": "1h"}))
		issued := m.Must(m.Backend.HandleRequest(t.Context(), &logical.Request{
			Operation: logical.ReadOperation, Path: "creds/unit", Storage: m.Storage, EntityID: "e1", DisplayName: "approle-erp",
		}))
		m.Remember(issued.Data["token"].(string))
		number := issued.Data["reference_number"].(string)
		listed := m.Must(m.List("tokens/"))
		require.Empty(t, listed.Warnings)
		read := m.Must(m.Read("tokens/"+number, nil)).Data
		require.Equal(t, []any{"e1", "approle-erp"}, []any{read["entity_id"], read["display_name"]})
		require.Equal(t, map[string]any{"keys": []string{number}, "key_info": map[string]any{number: map[string]any{
			"role": "unit", "internal_id": enginetest.UnitID, "state": "live", "entity_id": "e1", "display_name": "approle-erp",
			"lease_end": read["lease_end"],
		}}}, listed.Data)

		m.Must(m.Delete("tokens/" + number))
		other := m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "ttl": "2h"}))
		listed = m.Must(m.List("tokens/"))
		require.Equal(t, []string{other.Data["reference_number"].(string), number}, listed.Data["keys"])
		details := listed.Data["key_info"].(map[string]any)
		require.Equal(t, "dead", details[number].(map[string]any)["state"])
		require.Equal(t, map[string]any{
			"role": "", "nip": enginetest.NIP, "state": "live", "entity_id": "", "display_name": "token-app",
			"lease_end": m.Must(m.Read("tokens/"+other.Data["reference_number"].(string), nil)).Data["lease_end"],
		}, details[listed.Data["keys"].([]string)[0]])
	})
}

func testTokensListPagesAndFilters(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		list := func(data map[string]any) *logical.Response {
			response := m.Must(m.Request(logical.ListOperation, "tokens/", data))
			require.Empty(t, response.Warnings)
			return response
		}
		for i := range 9 {
			m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": fmt.Sprint("Report ", i), "ttl": "2h"}))
		}
		m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": enginetest.UnitID, "ttl": "9h"}))
		unit := m.Must(m.Read("creds/unit", nil)).Data["reference_number"].(string)

		sent := m.AllRequests()
		first := list(map[string]any{"limit": "6"})
		require.Len(t, first.Data["keys"], 6)
		require.Len(t, first.Data["key_info"], 6)
		last := list(map[string]any{"limit": 6, "after": first.Data["next"]})
		require.Len(t, last.Data["keys"], 5)
		require.NotContains(t, last.Data, "next")

		for _, filter := range []map[string]any{{"role": "unit"}, {"internal_id": enginetest.UnitID}} {
			require.Equal(t, []string{unit}, list(filter).Data["keys"])
			filter["limit"] = 2
			pages, found := 0, []string(nil)
			for filter["after"] != nil || pages == 0 {
				pages++
				response := list(filter)
				if keys, some := response.Data["keys"]; some {
					require.NotEmpty(t, keys, "Vault answers empty keys with a 404")
					found = append(found, keys.([]string)...)
				}
				filter["after"] = response.Data["next"]
			}
			require.Equal(t, []string{unit}, found)
			require.Equal(t, 2, pages)
		}
		require.Len(t, list(map[string]any{"nip": enginetest.NIP}).Data["keys"], 10)
		require.Equal(t, sent, m.AllRequests())
	})
}

func testTokensListRefusals(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		for text, data := range map[string]map[string]any{
			"limit: is negative":           {"limit": -1},
			"limit: is not a whole number": {"limit": "many"},
			"after: is not the end":        {"after": "20251010"},
			"internal_id: ":                {"nip": enginetest.NIP, "internal_id": enginetest.UnitID},
			"nip: ":                        {"nip": "1"},
		} {
			require.Contains(t, m.Refused(m.Request(logical.ListOperation, "tokens/", data)), text)
		}
		for _, field := range []string{"after", "limit", "role"} {
			refusal := m.Refused(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", field: "1"}))
			require.Contains(t, refusal, field+": means nothing in a write")
			response := m.Must(m.Read("tokens", map[string]any{field: "1"}))
			require.Equal(t, []string{field + ": means nothing in a read, and was ignored"}, response.Warnings)
		}
	})
}
