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

// formerMount issues tokens in the default context and stops without revoking them, like a mount
// whose storage was lost.
func formerMount(env *enginetest.Env, tokens int) (id string, leases []*logical.Response) {
	former := env.Mount(&logical.InmemStorage{})
	former.Configure()
	former.Must(former.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
	leases = former.IssueMany(tokens)
	id = former.Must(former.Read("status", nil)).Data["mount_id"].(string)
	former.Stop()
	return id, leases
}

func TestTidyFormer(t *testing.T) {
	t.Run("counts_and_revokes", testTidyFormerCountsAndRevokes)
	t.Run("reads_all_pages", testTidyFormerReadsAllPages)
	t.Run("refuses_loaded_mounts", testTidyFormerRefusesLoadedMounts)
	t.Run("fails_when_a_mount_id_is_unknown", testTidyFormerFailsWhenAMountIDIsUnknown)
	t.Run("checks_fields", testTidyFormerChecksFields)
	t.Run("lease", testTidyFormerLease)
}

func testTidyFormerCountsAndRevokes(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		own := m.Issue()
		id, _ := formerMount(m.Env, 3)
		otherID, _ := formerMount(m.Env, 1)

		found := m.Must(m.Write("tidy/former", map[string]any{"mount_id": id}))
		require.Equal(t, 3, found.Data["found"])
		require.Equal(t, 3, found.Data["left"])
		require.Empty(t, found.Data["revoked"])
		require.Contains(t, found.Warnings[0], "revoke these with expect=3")
		for _, token := range found.Data["tokens"].([]map[string]any) {
			require.Contains(t, token["description"], "[vault:"+id+":")
			require.NotEmpty(t, token["reference_number"])
			require.NotEmpty(t, token["issued_at"])
		}
		require.Len(t, m.AliveTokens(), 5, "a count changes nothing")

		text := m.Refused(m.Write("tidy/former", map[string]any{"mount_id": id, "expect": 2}))
		require.Contains(t, text, "expect: is 2, and KSeF has 3 living tokens of the mount "+id)
		require.Contains(t, text, "nothing was revoked")
		require.Len(t, m.AliveTokens(), 5)

		revoked := m.Must(m.Write("tidy/former", map[string]any{"mount_id": id, "expect": 3}))
		require.Len(t, revoked.Data["revoked"], 3)
		require.Equal(t, 0, revoked.Data["left"])
		require.Empty(t, revoked.Warnings)
		require.Len(t, m.AliveTokens(), 2)
		require.Equal(t, "Active", m.StatusInKSeF(own.Data["reference_number"]))
		require.Equal(t, 1, m.Must(m.Write("tidy/former", map[string]any{"mount_id": otherID})).Data["found"])
		require.Equal(t, 0, m.Must(m.Write("tidy/former", map[string]any{"mount_id": id, "expect": 0})).Data["found"])
		m.RequireEvent("ksef/tidy-former")
	})
}

// testTidyFormerReadsAllPages has more tokens than fit on a page, and more than one call can revoke
// within KSeF's limits.
func testTidyFormerReadsAllPages(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		id, _ := formerMount(m.Env, 130)
		left := 130
		for calls := 0; left > 0; calls++ {
			require.Less(t, calls, 40)
			response, err := m.Write("tidy/former", map[string]any{"mount_id": id, "expect": left})
			if err != nil {
				require.ErrorContains(t, err, "limit")
				m.Elapse(10 * time.Minute)
				continue
			}
			m.Must(response, nil)
			left = response.Data["left"].(int)
			require.Len(t, m.AliveTokens(), left)
			if left > 0 {
				require.Contains(t, response.Warnings[0], "write to tidy/former again with expect=")
				require.Contains(t, response.Warnings[0], "next slot at")
				m.Elapse(10 * time.Minute)
			}
		}
		require.Empty(t, m.AliveTokens())
	})
}

func testTidyFormerRefusesLoadedMounts(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		one, other := env.Mount(&logical.InmemStorage{}), env.Mount(&logical.InmemStorage{})
		defer one.Stop()
		for _, loaded := range []*enginetest.Mount{one, other} {
			loaded.Configure()
			loaded.Issue()
			id := loaded.Must(loaded.Read("status", nil)).Data["mount_id"]
			for _, fields := range []map[string]any{{"mount_id": id}, {"mount_id": id, "expect": 1}} {
				require.Contains(t, one.Refused(one.Write("tidy/former", fields)), "which is a mount that exists")
			}
		}
		require.Len(t, env.AliveTokens(), 2)
		id := other.Must(other.Read("status", nil)).Data["mount_id"]
		other.Stop()
		require.Equal(t, 1, one.Must(one.Write("tidy/former", map[string]any{"mount_id": id})).Data["found"], "a mount that is gone is not refused")
	})
}

func testTidyFormerFailsWhenAMountIDIsUnknown(t *testing.T) {
	enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
		one := env.Mount(&logical.InmemStorage{})
		defer one.Stop()
		one.Configure()
		disk := &enginetest.FlakyStorage{Storage: &logical.InmemStorage{}}
		disk.Fail(enginetest.StorageRefuses, "read")
		broken := env.NewMount(disk)
		broken.Load()
		_, err := one.Write("tidy/former", map[string]any{"mount_id": "0123456789ab"})
		require.ErrorContains(t, err, "a mount of this process cannot read its id")
		disk.Fail(enginetest.StorageWorks, "")
		broken.Stop()
	})
}

func testTidyFormerChecksFields(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		before := m.Requests("GET /tokens")
		for _, id := range []any{nil, "", "0123456789a", "0123456789AB", "0123456789abc", "0123456789a*", "[vault:01234"} {
			fields := map[string]any{}
			if id != nil {
				fields["mount_id"] = id
			}
			require.Contains(t, m.Refused(m.Write("tidy/former", fields)), "mount_id: is not the id of a mount")
		}
		require.Contains(t, m.Refused(m.Write("tidy/former", map[string]any{"mount_id": "0123456789ab", "nip": "1"})), "nip")
		require.Equal(t, before, m.Requests("GET /tokens"))
		require.Contains(t, m.Backend.SpecialPaths().Root, "tidy/former", "it wants sudo")
	})
}

// testTidyFormerLease revokes a lease of a mount whose path another mount has now.
func testTidyFormerLease(t *testing.T) {
	t.Run("is revoked by its own data", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			_, leases := formerMount(m.Env, 1)
			require.NoError(t, m.Revoke(m.Lease(leases[0])))
			require.Empty(t, m.AliveTokens())
		})
	})
	t.Run("names the config it needs without one", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			_, leases := formerMount(env, 1)
			m := env.Mount(&logical.InmemStorage{})
			defer m.Stop()
			err := m.Revoke(m.Lease(leases[0]))
			require.ErrorContains(t, err, "this mount needs a config with url="+enginetest.URL+" and a credential that may revoke tokens in nip="+enginetest.NIP)
			m.Configure()
			m.Elapse(time.Minute)
			require.NoError(t, m.Revoke(m.Lease(leases[0])))
			require.Empty(t, env.AliveTokens())
		})
	})
	t.Run("names the config it needs beside another API", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			_, leases := formerMount(m.Env, 1)
			secret := m.Lease(leases[0])
			secret.InternalData["api"] = "https://elsewhere.test/v2"
			require.ErrorContains(t, m.Revoke(secret), "this mount needs a config with url=https://elsewhere.test/v2 and a credential")
		})
	})
	t.Run("lets the config that it needs be written", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			_, leases := formerMount(m.Env, 1)
			fields := m.ConfigFields()
			fields["url"], fields["verify"] = "https://elsewhere.test/v2", false
			m.Must(m.Write("config", fields))
			require.ErrorContains(t, m.Revoke(m.Lease(leases[0])), "this mount needs a config with url="+enginetest.URL)
			m.Configure()
			m.Elapse(time.Minute)
			require.NoError(t, m.Revoke(m.Lease(leases[0])))
			require.Empty(t, m.AliveTokens())
		})
	})
	t.Run("names the config it needs beside another taxpayer", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			_, leases := formerMount(m.Env, 1)
			secret := m.Lease(leases[0])
			secret.InternalData["context"] = map[string]any{"type": "Nip", "value": "1111111111"}
			require.ErrorContains(t, m.Revoke(secret), "may revoke tokens in nip=1111111111")
		})
	})
	t.Run("of its own says nothing of the kind", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Fault(simulator.Fault{Endpoint: enginetest.RevokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
			m.Fault(simulator.Fault{Endpoint: enginetest.StatusEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
			require.NotContains(t, m.Revoke(m.Lease(issued)).Error(), "was at this path before")
		})
	})
}
