// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// meddlingSystem calls a function when the engine asks for the mount's default lease.
type meddlingSystem struct {
	logical.StaticSystemView
	meddle func()
}

// DefaultLeaseTTL implements logical.SystemView.
func (s meddlingSystem) DefaultLeaseTTL() time.Duration {
	s.meddle()
	return time.Hour
}

// TestIssueDuringContextChange changes nip during a request without a context: the token must not
// be issued in the old context, in which the new config cannot revoke it.
func TestIssueDuringContextChange(t *testing.T) {
	const otherNIP = "1111111111"
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		cert, key := m.NewCertificate(simulator.CertificateOptions{PESEL: "44051401359"})
		m.Must(m.Write("config", map[string]any{"certificate": cert, "private_key": key}))
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		changed := false
		system := meddlingSystem{
			logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 24 * time.Hour},
			func() {
				if !changed {
					changed = true
					m.Must(m.Write("config", map[string]any{"nip": otherNIP}))
				}
			},
		}
		synctest.Wait() // Setup must not meet the sending of events
		require.NoError(t, m.Backend.Setup(t.Context(), &logical.BackendConfig{
			StorageView: m.Storage, System: system, Logger: m.Backend.Logger(), EventsSender: m.Events,
		}))
		response, err := m.Read("creds/invoices", nil)
		require.NoError(t, err)
		require.True(t, changed)
		require.NoError(t, response.Error())
		require.Equal(t, otherNIP, response.Data["nip"])
	})
}
