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

func TestTTL(t *testing.T) {
	t.Run("of a role that is not set or too long is warned of", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for _, test := range []struct {
				role map[string]any
				want []string
			}{
				{map[string]any{"permissions": "InvoiceRead"}, []string{"ttl is not set, so that a token lives for 1h (the mount's default lease)"}},
				{map[string]any{"max_ttl": "30m"}, []string{"a token lives for 30m (max_ttl)"}},
				{map[string]any{"max_ttl": "1000h"}, []string{"max_ttl is longer than the mount's of 768h, which holds", "ttl is not set"}},
				{map[string]any{"max_ttl": 0, "ttl": "1000h"}, []string{"ttl is longer than the mount's max_lease_ttl of 768h"}},
				{map[string]any{"ttl": "1h"}, nil},
			} {
				written := m.Must(m.Write("roles/invoices", test.role))
				var warnings []string
				if written != nil {
					warnings = written.Warnings
				}
				require.Len(t, warnings, len(test.want), "%v", test.role)
				for i, text := range test.want {
					require.Contains(t, warnings[i], text)
				}
				require.Nil(t, m.Must(m.Write("roles/invoices", m.Must(m.Read("roles/invoices", nil)).Data)), "written back: %v", test.role)
			}
		})
	})
	t.Run("beyond the longest lease is capped with one warning", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			for what, issued := range map[string]*logical.Response{
				"creds":           m.Must(m.Write("creds/invoices", map[string]any{"ttl": "48h"})),
				"creds, by query": m.Must(m.Read("creds/invoices", map[string]any{"ttl": "48h"})),
				"tokens":          m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "ttl": "48h", "max_ttl": "24h"})),
			} {
				require.Len(t, issued.Warnings, 1, what)
				require.Contains(t, issued.Warnings[0], `TTL of "48h" exceeded the effective max_ttl of "24h"`, what)
				require.Equal(t, 24*time.Hour, issued.Secret.TTL, what)
				_, own := endInVault(m, m.Lease(issued), 0)
				require.Empty(t, own, "Vault adds none: %s", what)
			}
			beyond := m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "ttl": "1000h"}))
			require.Len(t, beyond.Warnings, 1)
			require.Equal(t, 32*24*time.Hour, beyond.Secret.TTL)
		})
	})
	t.Run("of no role is not warned of", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/short", map[string]any{"permissions": "InvoiceRead", "max_ttl": "30m"}))
			issued := m.Must(m.Read("creds/short", nil))
			require.Empty(t, issued.Warnings)
			require.Equal(t, 30*time.Minute, issued.Secret.TTL)
			_, own := endInVault(m, m.Lease(issued), 0)
			require.Empty(t, own)
		})
	})
	t.Run("near max_ttl is warned of by Vault alone", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			lease := m.Lease(m.Issue())
			for range 24 {
				m.Elapse(59 * time.Minute)
				m.Must(m.Renew(lease, 0))
			}
			for _, increment := range []time.Duration{0, 10 * time.Hour} {
				renewed := m.Must(m.Renew(lease, increment))
				require.Empty(t, renewed.Warnings)
				_, own := endInVault(m, renewed.Secret, increment)
				require.Len(t, own, 1)
			}
			m.Elapse(time.Hour)
			_, err := m.Renew(lease, 0)
			require.ErrorContains(t, err, "the lease cannot be renewed: past the max TTL")
		})
	})
}
