// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestConfigCredential(t *testing.T) {
	bad := map[string]any{"pkcs12": "Z2FyYmFnZQ==", "pkcs12_password": "secret"}
	t.Run("is read before the configuration is locked", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			require.NoError(t, m.Backend.connection.lock.Acquire(m.Ctx, 1))
			defer m.Backend.connection.lock.Release(1)
			ctx, cancel := context.WithTimeout(m.Ctx, time.Minute)
			defer cancel()
			m.Ctx = ctx
			require.Contains(t, m.Refused(m.Write("config", bad)), "pkcs12: ")
		})
	})
	t.Run("is read for one request at a time", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			require.NoError(t, m.Backend.parsing.Acquire(m.Ctx, 1))
			defer m.Backend.parsing.Release(1)
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
