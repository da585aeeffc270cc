// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestRenewal issues certificates that are valid for a minute and a half, on a Vault without a
// rotation manager.
func TestRenewal(t *testing.T) {
	t.Parallel()
	const lifetime = 90 * time.Second
	secrets := &secrets{}
	_, ksefURL := startKSeF(t, secrets, simulator.Options{CertificateLifetime: lifetime})
	vault := startServer(t, secrets)
	vault.enable(t, "ksef", ksefURL, nil)
	_, err := vault.Logical().WriteWithContext(t.Context(), "ksef/config/rotate-root", nil)
	require.NoError(t, err)

	first, err := vault.Logical().ReadWithContext(t.Context(), "ksef/config")
	require.NoError(t, err)
	serial := first.Data["certificate_serial_number"]
	require.NotEmpty(t, serial)
	var last map[string]any
	require.NoError(t, waitFor(t.Context(), lifetime, "the certificate to be renewed", func() (err error) {
		last, err = lastRotation(t.Context(), vault)
		if err == nil && last["retired_serial_number"] != serial {
			err = fmt.Errorf("the last rotation is still the one before: %v", last)
		}
		return err
	}))
	require.Equal(t, true, last["automatic"])
	require.Empty(t, last["error"])
	second, err := vault.Logical().ReadWithContext(t.Context(), "ksef/config")
	require.NoError(t, err)
	require.Equal(t, last["certificate_serial_number"], second.Data["certificate_serial_number"])
	require.NotEqual(t, serial, second.Data["certificate_serial_number"])
}

// lastRotation matches the status of a completed rotation.
func lastRotation(ctx context.Context, vault *server) (map[string]any, error) {
	status, err := vault.Logical().ReadWithContext(ctx, "ksef/status")
	if err != nil {
		return nil, err
	}
	details, _ := status.Data["verbose"].(map[string]any)
	rotation, _ := details["rotation"].(map[string]any)
	last, _ := rotation["last"].(map[string]any)
	if last == nil {
		return nil, errors.New("status shows no rotation")
	}
	return last, nil
}
