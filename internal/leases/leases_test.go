// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package leases_test

import (
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/leases"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func system() *logical.StaticSystemView {
	return &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 768 * time.Hour}
}

func TestCheckUntil(t *testing.T) {
	now := time.Date(2026, time.December, 31, 22, 0, 0, 0, time.UTC)
	require.NoError(t, leases.CheckUntil(time.Time{}, now))
	require.NoError(t, leases.CheckUntil(now.Add(time.Hour), now))
	for _, until := range []time.Time{now, now.Add(-time.Hour)} {
		err := leases.CheckUntil(until, now)
		require.ErrorAs(t, err, new(*client.InputError))
		require.ErrorContains(t, err, "tokens_accepted_until: is ")
		require.ErrorContains(t, err, leases.TokensPage)
	}
}

func TestEndOf(t *testing.T) {
	early, late := time.Now(), time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		config, ksef time.Time
		want         leases.End
	}{
		"none":             {want: leases.End{ByKSeF: true}},
		"KSeF's alone":     {ksef: early, want: leases.End{At: early, ByKSeF: true}},
		"config's alone":   {config: early, want: leases.End{At: early}},
		"KSeF's earlier":   {config: late, ksef: early, want: leases.End{At: early, ByKSeF: true}},
		"config's earlier": {config: early, ksef: late, want: leases.End{At: early}},
		"both at once":     {config: early, ksef: early, want: leases.End{At: early}},
	} {
		require.Equal(t, test.want, leases.EndOf(test.config, test.ksef), name)
	}
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issued := time.Now()
		<-time.After(30 * time.Minute)
		renew := func(end leases.End, maxTTL time.Duration) (leases.Renewal, error) {
			secret := &logical.Secret{LeaseOptions: logical.LeaseOptions{IssueTime: issued}}
			return leases.Renew(system(), secret, time.Hour, maxTTL, end)
		}

		renewal, err := renew(leases.End{}, 0)
		require.NoError(t, err)
		require.Equal(t, leases.Renewal{TTL: time.Hour, Granted: time.Hour}, renewal, "no end")

		renewal, err = renew(leases.End{At: issued.Add(10 * time.Hour)}, 0)
		require.NoError(t, err)
		require.Empty(t, renewal.Warning, "a late end")
		require.Equal(t, time.Hour, renewal.Granted)
		require.LessOrEqual(t, renewal.MaxTTL, 10*time.Hour, "the maximum counts from the issue")

		renewal, err = renew(leases.End{At: issued.Add(40 * time.Minute), ByKSeF: true}, 24*time.Hour)
		require.NoError(t, err)
		require.Contains(t, renewal.Warning, "KSeF ends the token at", "an end before that of the lease")
		require.LessOrEqual(t, renewal.Granted, 10*time.Minute)
		require.Equal(t, renewal.Granted, renewal.TTL)
		require.LessOrEqual(t, renewal.MaxTTL, 40*time.Minute)

		_, err = renew(leases.End{At: time.Now(), ByKSeF: true}, 0)
		require.ErrorContains(t, err, "It ends at its time; ask for another token")
		_, err = renew(leases.End{At: time.Now()}, 0)
		require.ErrorAs(t, err, new(*client.InputError))
		require.ErrorContains(t, err, "tokens_accepted_until: is ")

		<-time.After(time.Hour)
		_, err = renew(leases.End{}, time.Hour)
		require.ErrorContains(t, err, "the lease cannot be renewed", "max_ttl is over")
	})
}

func TestTTLWarnings(t *testing.T) {
	for _, test := range []struct {
		ttl, maxTTL time.Duration
		want        []string
	}{
		{0, 0, []string{"ttl is not set, so that a token lives for 1h (the mount's default lease)"}},
		{0, 30 * time.Minute, []string{"a token lives for 30m (max_ttl)"}},
		{0, 1000 * time.Hour, []string{"max_ttl is longer than the mount's of 768h, which holds", "ttl is not set"}},
		{1000 * time.Hour, 0, []string{"ttl is longer than the mount's max_lease_ttl of 768h"}},
		{90 * time.Second, time.Hour, nil},
	} {
		warnings := leases.TTLWarnings(system(), test.ttl, test.maxTTL)
		require.Len(t, warnings, len(test.want))
		for i, text := range test.want {
			require.Contains(t, warnings[i], text)
		}
	}
	short := &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 90 * time.Second}
	require.Contains(t, leases.TTLWarnings(short, 0, 0)[0], "lives for 1m30s (the mount's max_lease_ttl)")
}
