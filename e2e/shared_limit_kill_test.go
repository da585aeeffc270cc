// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestSharedLimitSurvivesKill uses up a minute of the context that two mounts share, from one of
// them, and kills the process of both. Afterwards the mount that has sent nothing is used first.
func TestSharedLimitSurvivesKill(t *testing.T) {
	t.Parallel()
	const perMinute = 30
	secrets := &secrets{}
	ksef, ksefURL := startKSeF(t, secrets, simulator.Options{})
	vault := startServer(t, secrets)
	read := func(mount string) error {
		_, err := vault.Logical().ReadWithContext(t.Context(), mount+"/creds/invoices")
		return err
	}
	for _, mount := range []string{"idle", "busy"} {
		vault.enable(t, mount, ksefURL, map[string]any{"activation_timeout": 0})
		_, err := vault.Logical().WriteWithContext(t.Context(), mount+"/roles/invoices", map[string]any{"permissions": "InvoiceRead"})
		require.NoError(t, err)
	}
	for range perMinute {
		require.NoError(t, read("busy"))
	}
	killer := &faultInjector{vault: vault, traffic: &traffic{}}
	require.NoError(t, killer.killPlugin())

	var err error
	// Vault restarts the plugin when a request finds it gone; that request does not reach KSeF.
	require.NoError(t, waitFor(t.Context(), startLimit, "the plugin to be back", func() error {
		if err = read("idle"); statusOf(err) == http.StatusInternalServerError {
			return err
		}
		return nil
	}))
	require.Equal(t, http.StatusTooManyRequests, statusOf(err), "%v", err)
	require.ErrorContains(t, err, "next slot at 20")
	requests := ksef.State().Requests
	require.Equal(t, map[string]int{"202": perMinute}, requests["POST /tokens"])
	for endpoint, answered := range requests {
		require.NotContains(t, answered, "429", endpoint)
	}
}
