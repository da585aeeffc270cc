// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// atMost is a limiter that fails the test's requests beyond a number.
type atMost struct{ left *int }

func (g atMost) Admit(context.Context, string) (client.Permit, error) {
	if *g.left--; *g.left < 0 {
		return nil, errors.New("too many requests")
	}
	return open{}, nil
}

func TestRenew(t *testing.T) {
	t.Run("refused_login_is_not_taken_back_when_deletion_fails", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			login := f.signed(clerk)
			storage := &logical.InmemStorage{}
			f.options.Storage = storage
			left := 20
			f.options.Limiter = func(client.ContextIdentifier) client.Limiter { return atMost{&left} }
			m := f.external()
			require.NoError(t, m.Keep(t.Context(), login))
			require.NoError(t, f.options.Client.EndSession(t.Context(), login.Refresh.Token))
			elapse(20 * time.Minute)
			storage.Underlying().FailDelete(true)
			for range 100 {
				_, err := m.Access(t.Context(), taxpayer)
				require.ErrorContains(t, err, "login/begin")
				elapse(time.Second)
			}
			require.Equal(t, 1, f.count(refresh))
			known, err := m.All(t.Context())
			require.NoError(t, err)
			require.Len(t, known, 1, "its deletion has failed")

			storage.Underlying().FailDelete(false)
			elapse(time.Minute)
			_, err = m.Access(t.Context(), taxpayer)
			require.ErrorContains(t, err, "login/begin")
			known, err = m.All(t.Context())
			require.NoError(t, err)
			require.Empty(t, known)
			require.Equal(t, 1, f.count(refresh))
		})
	})
	t.Run("login_stored_elsewhere_that_is_refused_too", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			first, second := f.signed(clerk), f.signed(clerk)
			m := f.external()
			require.NoError(t, m.Keep(t.Context(), first))
			elapse(time.Minute)
			second.Since = time.Now()
			require.NoError(t, f.external().Keep(t.Context(), second))
			require.NoError(t, f.options.Client.EndSession(t.Context(), second.Refresh.Token))
			elapse(20 * time.Minute)
			_, err := m.Access(t.Context(), taxpayer)
			require.ErrorContains(t, err, "login/begin")
			require.Equal(t, 2, f.count(refresh))
		})
	})
	t.Run("storage_that_cannot_be_read_is_not_a_missing_login", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			storage := &logical.InmemStorage{}
			f.options.Storage = storage
			m := f.external()
			_, err := m.Access(t.Context(), taxpayer)
			require.ErrorContains(t, err, "login/begin")
			elapse(time.Minute)
			storage.Underlying().FailGet(true)
			_, err = m.Access(t.Context(), taxpayer)
			require.ErrorContains(t, err, "reading the session")
		})
	})
}
