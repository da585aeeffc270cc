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

// TestSharedLimit has two mounts ask for more tokens in a minute than KSeF allows a context. One
// process serves both, so that together they stay within the limit, and refusals name the next
// moment.
func TestSharedLimit(t *testing.T) {
	t.Parallel()
	const each, perMinute = 25, 30
	mounts := []string{"accounting", "warehouse"}
	secrets := &secrets{}
	ksef, ksefURL := startKSeF(t, secrets, simulator.Options{})
	vault := startServer(t, secrets)
	for _, mount := range mounts {
		vault.enable(t, mount, ksefURL, map[string]any{"activation_timeout": 0})
	}
	require.Len(t, childrenOf(vault.process.Process.Pid, processesOf(vault.plugin)), 1, "one process serves both mounts")

	answers := make(chan error, each*len(mounts))
	for number := range each * len(mounts) {
		go func() {
			_, err := vault.Logical().WriteWithContext(t.Context(), mounts[number%len(mounts)]+"/tokens", map[string]any{
				"permissions": "InvoiceRead", "description": "Shared limit",
			})
			answers <- err
		}()
	}
	issued := 0
	for range each * len(mounts) {
		err := <-answers
		if err == nil {
			issued++
			continue
		}
		require.Equal(t, http.StatusTooManyRequests, statusOf(err), "%v", err)
		require.ErrorContains(t, err, "KSeF's limit for POST /tokens is used up")
		require.ErrorContains(t, err, "next slot at 20")
	}
	require.Equal(t, perMinute, issued)
	requests := ksef.State().Requests
	require.Equal(t, map[string]int{"202": perMinute}, requests["POST /tokens"])
	for endpoint, answered := range requests {
		require.NotContains(t, answered, "429", endpoint)
	}
}
