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
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.NoError(t, m.backend.connection.lock.Acquire(m.ctx, 1))
			defer m.backend.connection.lock.Release(1)
			ctx, cancel := context.WithTimeout(m.ctx, time.Minute)
			defer cancel()
			m.ctx = ctx
			require.Contains(t, m.refused(m.write("config", bad)), "pkcs12: ")
		})
	})
	t.Run("is read for one request at a time", func(t *testing.T) {
		withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
			require.NoError(t, m.backend.parsing.Acquire(m.ctx, 1))
			defer m.backend.parsing.Release(1)
			whole := m.ctx
			ctx, cancel := context.WithTimeout(whole, time.Minute)
			defer cancel()
			m.ctx = ctx
			_, err := m.write("config", bad)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			m.ctx = whole
			m.must(m.write("config", map[string]any{"activation_timeout": "10s"}))
		})
	})
}
