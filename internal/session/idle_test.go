// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

var stranger = client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}

func TestRefusal(t *testing.T) {
	refused := func(t *testing.T, f *fixture, m *session.Manager, code int, logins int) {
		t.Helper()
		_, err := m.Access(t.Context(), stranger)
		var login *client.LoginError
		require.ErrorAs(t, err, &login)
		require.Equal(t, code, login.Status.Code)
		require.Equal(t, logins, f.count(submit))
	}
	t.Run("for_lack_of_rights_is_answered_from_memory_for_an_hour", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			for range 59 {
				refused(t, f, m, 415, 1)
				elapse(time.Minute)
				m.DropIdle()
			}
			_, err := m.Access(t.Context(), stranger)
			require.ErrorContains(t, err, "write config")
			elapse(time.Minute)
			refused(t, f, m, 415, 2)
			refused(t, f, session.NewManager(f.options), 415, 3)
		})
	})
	t.Run("for_another_reason_is_answered_from_memory_for_half_a_minute", func(t *testing.T) {
		inBubble(t, simulator.Options{ClockOffset: 20 * 365 * 24 * time.Hour}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			refused(t, f, m, 460, 1)
			elapse(29 * time.Second)
			refused(t, f, m, 460, 1)
			elapse(time.Second)
			refused(t, f, m, 460, 2)
		})
	})
}

func TestDropIdle(t *testing.T) {
	t.Run("context_without_a_session", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			_, err := m.Access(t.Context(), stranger)
			require.Error(t, err)
			elapse(59 * time.Minute)
			m.DropIdle()
			require.Equal(t, 1, m.Contexts())
			elapse(time.Minute)
			m.DropIdle()
			require.Zero(t, m.Contexts())
		})
	})
	t.Run("session_that_lives", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			f.works(m)
			elapse(7*24*time.Hour - time.Minute)
			m.DropIdle()
			require.Equal(t, 1, m.Contexts())
			elapse(2 * time.Minute)
			m.DropIdle()
			require.Zero(t, m.Contexts())
			f.works(m)
			require.Equal(t, 2, f.count(submit))
		})
	})
	t.Run("beside_requests", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
			ctx, stop := context.WithCancel(t.Context())
			m := session.NewManager(f.options)
			_, err := m.Access(t.Context(), stranger)
			require.Error(t, err)
			elapse(time.Hour)
			var wait sync.WaitGroup
			wait.Go(func() {
				for ctx.Err() == nil {
					m.DropIdle()
					elapse(time.Millisecond)
				}
			})
			var readers sync.WaitGroup
			for range 9 {
				readers.Go(func() {
					_, err := m.Access(t.Context(), stranger)
					require.Error(t, err)
					f.works(m)
				})
			}
			readers.Wait()
			stop()
			wait.Wait()
			require.Equal(t, 3, f.count(submit), "one login per context and hour")
		})
	})
}
