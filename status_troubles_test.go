// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestStatusWarnsOfWhatKeepsTokensAway has no token that waits for its end, which status warns of
// besides.
func TestStatusWarnsOfWhatKeepsTokensAway(t *testing.T) {
	t.Run("refused_login", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.must(m.write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "nip": "1111111111"}))
			require.Empty(t, m.statusWarnings())
			m.refused(m.read("creds/other", nil))
			require.Contains(t, m.statusWarnings(), "logging in to KSeF in Nip:1111111111: KSeF refused the login")
			m.must(m.write("config", nil))
			require.Empty(t, m.statusWarnings())
		})
	})
	t.Run("lost_reply_of_another_signer", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultStatus, Status: http.StatusInternalServerError})
			_, err := m.read("creds/invoices", nil)
			require.Error(t, err)
			certificate, key := m.certificate(simulator.CertificateOptions{PESEL: testPESEL})
			m.must(m.write("config", map[string]any{"certificate": certificate, "private_key": key}))
			m.elapse(50 * time.Hour)
			require.Contains(t, m.statusWarnings(), "it cannot be told whether it exists before the one that made it is configured")
			text := m.refused(m.write("config", map[string]any{"nip": "1111111111"}))
			require.Contains(t, text, "it cannot be told whether it exists")
			require.NotContains(t, text, "the engine looks for them until")
			m.configure()
			m.elapse(2 * time.Hour)
			require.Empty(t, m.statusWarnings())
			m.requireEmptyLedger()
		})
	})
	t.Run("outage", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropReply, Times: -1})
			for range 3 {
				_, err := m.read("creds/invoices", nil)
				require.Error(t, err)
			}
			require.Contains(t, m.statusWarnings(), "The last 3 requests for tokens to KSeF at "+testURL+" have ended with an unknown outcome.")
			m.ksef.ClearFaults()
			m.elapse(time.Minute)
			m.must(m.read("creds/invoices", nil))
			require.Empty(t, m.statusWarnings())
		})
	})
}
