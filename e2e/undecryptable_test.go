// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestUndecryptableEntry changes one byte of the stored session below Vault's encryption.
func TestUndecryptableEntry(t *testing.T) {
	t.Parallel()
	secrets := &secrets{}
	_, ksefURL := startKSeF(t, secrets, simulator.Options{})
	s := startServer(t, secrets)
	s.enable(t, "ksef", ksefURL, nil)

	require.NoError(t, s.kill())
	damage(t, filepath.Join(s.dir, "raft", "vault.db"), "/sessions/")
	require.NoError(t, s.restart(t.Context()))

	_, err := s.Logical().ReadWithContext(t.Context(), "ksef/status")
	require.NoError(t, err)
	token, err := s.Logical().WriteWithContext(t.Context(), "ksef/tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report"})
	require.NoError(t, err)
	require.NotEmpty(t, token.LeaseID)
	_, err = s.Logical().WriteWithContext(t.Context(), "ksef/config", map[string]any{"nip": testNIP})
	require.NoError(t, err)
}

// damage changes a byte of each value whose key contains the given part. A value follows its key,
// and begins with how it is encrypted.
func damage(t *testing.T, file, part string) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	found := 0
	for at := 0; ; {
		next := bytes.Index(content[at:], []byte(part))
		if next < 0 {
			break
		}
		at += next + len(part)
		content[at+200] ^= 1
		found++
	}
	require.NotZero(t, found)
	require.NoError(t, os.WriteFile(file, content, 0o600))
}
