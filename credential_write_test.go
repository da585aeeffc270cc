// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"context"
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestConfigCredential(t *testing.T) {
	bad := map[string]any{"pkcs12": "Z2FyYmFnZQ==", "pkcs12_password": "secret"}
	t.Run("is read before the configuration is locked", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.NoError(t, ksef.ConnectionLock(m.Backend).Acquire(m.Ctx, 1))
			defer ksef.ConnectionLock(m.Backend).Release(1)
			ctx, cancel := context.WithTimeout(m.Ctx, time.Minute)
			defer cancel()
			m.Ctx = ctx
			require.Contains(t, m.Refused(m.Write("config", bad)), "pkcs12: ")
		})
	})
	t.Run("is read for one request at a time", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.NoError(t, ksef.ParsingLock(m.Backend).Acquire(m.Ctx, 1))
			defer ksef.ParsingLock(m.Backend).Release(1)
			whole := m.Ctx
			ctx, cancel := context.WithTimeout(whole, time.Minute)
			defer cancel()
			m.Ctx = ctx
			_, err := m.Write("config", bad)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			m.Ctx = whole
			m.Must(m.Write("config", map[string]any{"activation_timeout": "10s"}))
		})
	})
}
