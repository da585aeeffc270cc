// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestStatusWarnsOfWhatKeepsTokensAway has no token that waits for its end, which status warns of
// besides.
func TestStatusWarnsOfWhatKeepsTokensAway(t *testing.T) {
	t.Run("refused_login", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "nip": "1111111111"}))
			require.Empty(t, m.StatusWarnings())
			m.Refused(m.Read("creds/other", nil))
			require.Contains(t, m.StatusWarnings(), "logging in to KSeF in Nip:1111111111: KSeF refused the login")
			m.Must(m.Write("config", nil))
			require.Empty(t, m.StatusWarnings())
		})
	})
	t.Run("lost_reply_of_another_signer", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Fault(simulator.Fault{Endpoint: enginetest.IssueEndpoint, Kind: simulator.FaultStatus, Status: http.StatusInternalServerError})
			_, err := m.Read("creds/invoices", nil)
			require.Error(t, err)
			certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: enginetest.PESEL})
			m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
			m.Elapse(50 * time.Hour)
			require.Contains(t, m.StatusWarnings(), "whether it exists is unknown until the one that made it is configured")
			text := m.Refused(m.Write("config", map[string]any{"nip": "1111111111"}))
			require.Contains(t, text, "whether it exists is unknown")
			require.NotContains(t, text, "the engine searches for them until")
			m.Configure()
			m.Elapse(2 * time.Hour)
			require.Empty(t, m.StatusWarnings())
			m.RequireEmptyLedger()
		})
	})
	t.Run("outage", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropResponse, Times: -1})
			for range 3 {
				_, err := m.Read("creds/invoices", nil)
				require.Error(t, err)
			}
			require.Contains(t, m.StatusWarnings(), "The last 3 requests for tokens to KSeF at "+enginetest.URL+" have ended with an unknown outcome.")
			m.KSeF.ClearFaults()
			m.Elapse(time.Minute)
			m.Must(m.Read("creds/invoices", nil))
			require.Empty(t, m.StatusWarnings())
		})
	})
}
