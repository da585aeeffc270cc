// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestDisableUnderLoad repeatedly disables and enables a path while readers ask for tokens there.
// Vault does not wait for requests in flight, and deletes the mount's storage; no token may remain,
// received or not.
func TestDisableUnderLoad(t *testing.T) {
	const rounds, readers = 3, 16
	wide := simulator.Windows{PerSecond: 1000, PerMinute: 10_000, PerHour: 100_000}
	secrets := &secrets{}
	ksef, ksefURL := startKSeF(t, secrets, simulator.Options{
		ActivationDelay: 300 * time.Millisecond, RevocationDelay: -1, Limits: simulator.Limits{Context: wide, Client: wide},
	})
	vault := startServer(t, secrets)

	reading, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	for range readers {
		work.Go(func() {
			for reading.Err() == nil {
				if answer, err := vault.Logical().Read("ksef/creds/invoices"); err != nil || answer == nil {
					_ = pause(reading, 20*time.Millisecond)
				}
			}
		})
	}
	for range rounds {
		vault.enable(t, "ksef", ksefURL, nil)
		_, err := vault.Logical().Write("ksef/roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"})
		require.NoError(t, err)
		made := len(ksef.State().Tokens)
		require.NoError(t, waitFor(t.Context(), startLimit, "more tokens", func() error {
			if len(ksef.State().Tokens) < made+2*readers {
				return fmt.Errorf("%d so far", len(ksef.State().Tokens)-made)
			}
			return nil
		}))
		require.NoError(t, waitFor(t.Context(), startLimit, "the mount to go", func() error {
			return vault.Sys().UnmountWithContext(t.Context(), "ksef")
		}))
		living := slices.DeleteFunc(ksef.State().Tokens, func(token simulator.TokenState) bool { return token.Status == "Revoked" })
		require.Empty(t, living, "the mount is gone, and what it has issued is alive")
	}
}
