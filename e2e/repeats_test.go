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

// TestVaultClientDoesNotRepeat uses Vault's client with its default retries.
func TestVaultClientDoesNotRepeat(t *testing.T) {
	t.Parallel()
	const retries = 2
	secrets := &secrets{}
	ksef, ksefURL := startKSeF(t, secrets, simulator.Options{})
	vault := startServer(t, secrets)
	vault.enable(t, "ksef", ksefURL, map[string]any{"activation_timeout": 0})
	vault.SetMaxRetries(retries)
	issue := func() (string, error) {
		answer, err := vault.Logical().WriteWithContext(t.Context(), "ksef/tokens", map[string]any{
			"permissions": "InvoiceRead", "description": "Repeats",
		})
		if err != nil {
			return "", err
		}
		return answer.Data["reference_number"].(string), nil
	}

	number, err := issue()
	require.NoError(t, err)
	require.NoError(t, ksef.AddFault(simulator.Fault{Endpoint: "DELETE /tokens/{referenceNumber}", Kind: simulator.FaultDropRequest, Times: retries + 1}))
	answer, err := vault.Logical().DeleteWithContext(t.Context(), "ksef/tokens/"+number)
	require.NoError(t, err)
	require.Len(t, answer.Warnings, 1)
	require.Contains(t, answer.Warnings[0], "has not yet confirmed")

	require.NoError(t, ksef.AddFault(simulator.Fault{Endpoint: "POST /tokens", Kind: simulator.FaultDropResponse, Times: retries + 1}))
	_, err = issue()
	require.Equal(t, http.StatusConflict, statusOf(err), "%v", err)
	require.ErrorContains(t, err, "will be found and revoked")
	require.Equal(t, map[string]int{"202": 1, "dropped": 1}, ksef.State().Requests["POST /tokens"])
}
