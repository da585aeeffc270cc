// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// formerMount issues tokens in the default context and goes without revoking them, as one whose
// storage was lost.
func (w *env) formerMount(tokens int) (id string, leases []*logical.Response) {
	former := &unmountable{mount: w.mount(&logical.InmemStorage{})}
	former.configure()
	former.must(former.write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
	leases = former.issueMany(tokens)
	id = former.must(former.read("status", nil)).Data["mount_id"].(string)
	former.stop()
	return id, leases
}

func TestTidyFormerCountsAndRevokes(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		own := m.issue()
		id, _ := m.formerMount(3)
		otherID, _ := m.formerMount(1)

		found := m.must(m.write("tidy/former", map[string]any{"mount_id": id}))
		require.Equal(t, 3, found.Data["found"])
		require.Equal(t, 3, found.Data["left"])
		require.Empty(t, found.Data["revoked"])
		require.Contains(t, found.Warnings[0], "revoke these with expect=3")
		for _, token := range found.Data["tokens"].([]map[string]any) {
			require.Contains(t, token["description"], "[vault:"+id+":")
			require.NotEmpty(t, token["reference_number"])
			require.NotEmpty(t, token["issued_at"])
		}
		require.Len(t, m.aliveTokens(), 5, "a count changes nothing")

		text := m.refused(m.write("tidy/former", map[string]any{"mount_id": id, "expect": 2}))
		require.Contains(t, text, "expect: is 2, and KSeF has 3 living tokens of the mount "+id)
		require.Contains(t, text, "nothing was revoked")
		require.Len(t, m.aliveTokens(), 5)

		revoked := m.must(m.write("tidy/former", map[string]any{"mount_id": id, "expect": 3}))
		require.Len(t, revoked.Data["revoked"], 3)
		require.Equal(t, 0, revoked.Data["left"])
		require.Empty(t, revoked.Warnings)
		require.Len(t, m.aliveTokens(), 2)
		require.Equal(t, "Active", m.statusInKSeF(own.Data["reference_number"]))
		require.Equal(t, 1, m.must(m.write("tidy/former", map[string]any{"mount_id": otherID})).Data["found"])
		require.Equal(t, 0, m.must(m.write("tidy/former", map[string]any{"mount_id": id, "expect": 0})).Data["found"])
		m.requireEvent("ksef/tidy-former")
	})
}

// TestTidyFormerReadsAllPages has more tokens than a page holds, and more than one call can revoke
// within KSeF's limits.
func TestTidyFormerReadsAllPages(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		id, _ := m.formerMount(130)
		left := 130
		for calls := 0; left > 0; calls++ {
			require.Less(t, calls, 40)
			response, err := m.write("tidy/former", map[string]any{"mount_id": id, "expect": left})
			if err != nil {
				require.ErrorContains(t, err, "limit")
				m.elapse(10 * time.Minute)
				continue
			}
			m.must(response, nil)
			left = response.Data["left"].(int)
			require.Len(t, m.aliveTokens(), left)
			if left > 0 {
				require.Contains(t, response.Warnings[0], "write to tidy/former again with expect=")
				require.Contains(t, response.Warnings[0], "next slot at")
				m.elapse(10 * time.Minute)
			}
		}
		require.Empty(t, m.aliveTokens())
	})
}

func TestTidyFormerRefusesMountsThatLive(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		factory := newFactory("v1.2.3", w.registry, w.transport)
		one, other := w.mountOf(factory), w.mountOf(factory)
		defer one.stop()
		for _, loaded := range []*mount{one, other} {
			loaded.configure()
			loaded.issue()
			id := loaded.must(loaded.read("status", nil)).Data["mount_id"]
			for _, fields := range []map[string]any{{"mount_id": id}, {"mount_id": id, "expect": 1}} {
				require.Contains(t, one.refused(one.write("tidy/former", fields)), "which is a mount that exists")
			}
		}
		require.Len(t, w.aliveTokens(), 2)
		id := other.must(other.read("status", nil)).Data["mount_id"]
		other.stop()
		require.Equal(t, 1, one.must(one.write("tidy/former", map[string]any{"mount_id": id})).Data["found"], "a mount that is gone is not refused")
	})
}

func TestTidyFormerFailsWhereAMountsIDIsNotKnown(t *testing.T) {
	inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
		factory := newFactory("v1.2.3", w.registry, w.transport)
		one := w.mountOf(factory)
		defer one.stop()
		one.configure()
		disk := &flakyDisk{Storage: &logical.InmemStorage{}}
		disk.fail(refused, "read")
		broken := &mount{env: w, ctx: t.Context(), storage: disk, transport: w.transport, registry: w.registry, events: logical.NewMockEventSender()}
		broken.make(factory)
		_, err := one.write("tidy/former", map[string]any{"mount_id": "0123456789ab"})
		require.ErrorContains(t, err, "a mount of this process cannot tell its id")
		disk.fail(none, "")
		broken.stop()
	})
}

func TestTidyFormerChecksItsFields(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		before := m.requests("GET /tokens")
		for _, id := range []any{nil, "", "0123456789a", "0123456789AB", "0123456789abc", "0123456789a*", "[vault:01234"} {
			fields := map[string]any{}
			if id != nil {
				fields["mount_id"] = id
			}
			require.Contains(t, m.refused(m.write("tidy/former", fields)), "mount_id: is not the id of a mount")
		}
		require.Contains(t, m.refused(m.write("tidy/former", map[string]any{"mount_id": "0123456789ab", "nip": "1"})), "nip")
		require.Equal(t, before, m.requests("GET /tokens"))
		require.Contains(t, m.backend.SpecialPaths().Root, "tidy/former", "it wants sudo")
	})
}

// mountOf is a mount that a process serves beside others.
func (w *env) mountOf(factory logical.Factory) *mount {
	m := &mount{
		env: w, ctx: w.t.Context(), storage: &logical.InmemStorage{}, transport: w.transport, registry: w.registry,
		events: logical.NewMockEventSender(),
	}
	m.make(factory)
	m.initialize()
	return m
}

func (m *mount) make(factory logical.Factory) {
	made, err := factory(m.t.Context(), &logical.BackendConfig{
		StorageView:  m.storage,
		System:       &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 480 * time.Hour},
		Logger:       hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: m.logs}),
		EventsSender: m.events,
	})
	require.NoError(m.t, err)
	m.backend = made.(*backend)
}

// TestALeaseOfAFormerMount is a lease that Vault still has when another mount has been enabled at
// its path.
func TestALeaseOfAFormerMount(t *testing.T) {
	t.Run("is revoked by its own data", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			_, leases := m.formerMount(1)
			require.NoError(t, m.revoke(m.lease(leases[0])))
			require.Empty(t, m.aliveTokens())
		})
	})
	t.Run("names the config it needs without one", func(t *testing.T) {
		inEnv(t, simulator.Options{}, func(t *testing.T, w *env) {
			_, leases := w.formerMount(1)
			m := w.mount(&logical.InmemStorage{})
			defer m.stop()
			err := m.revoke(m.lease(leases[0]))
			require.ErrorContains(t, err, "this mount needs a config with url="+testURL+" and a credential that may revoke tokens in nip="+testNIP)
			m.configure()
			m.elapse(time.Minute)
			require.NoError(t, m.revoke(m.lease(leases[0])))
			require.Empty(t, w.aliveTokens())
		})
	})
	t.Run("names the config it needs beside another API", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			_, leases := m.formerMount(1)
			secret := m.lease(leases[0])
			secret.InternalData["api"] = "https://elsewhere.test/v2"
			require.ErrorContains(t, m.revoke(secret), "this mount needs a config with url=https://elsewhere.test/v2 and a credential")
		})
	})
	t.Run("lets the config that it needs be written", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			_, leases := m.formerMount(1)
			fields := m.fields()
			fields["url"], fields["verify"] = "https://elsewhere.test/v2", false
			m.must(m.write("config", fields))
			require.ErrorContains(t, m.revoke(m.lease(leases[0])), "this mount needs a config with url="+testURL)
			m.configure()
			m.elapse(time.Minute)
			require.NoError(t, m.revoke(m.lease(leases[0])))
			require.Empty(t, m.aliveTokens())
		})
	})
	t.Run("names the config it needs beside another taxpayer", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			_, leases := m.formerMount(1)
			secret := m.lease(leases[0])
			secret.InternalData["context"] = map[string]any{"type": "Nip", "value": "1111111111"}
			require.ErrorContains(t, m.revoke(secret), "may revoke tokens in nip=1111111111")
		})
	})
	t.Run("of its own says nothing of the kind", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			issued := m.issue()
			m.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
			m.fault(simulator.Fault{Endpoint: statusEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
			require.NotContains(t, m.revoke(m.lease(issued)).Error(), "was at this path before")
		})
	})
}
