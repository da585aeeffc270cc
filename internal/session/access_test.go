// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"context"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// besides is a manager with a prefix of its own, on the fixture's storage.
func (f *fixture) besides(fingerprint string) *session.Manager {
	options := f.options
	options.ConfigFingerprint = fingerprint
	options.Prefix, options.UnstoredPrefix = session.AccessPrefix+"invoices/", session.UnstoredAccessPrefix+"invoices/"
	return session.NewManager(options)
}

func (f *fixture) keys(prefix string) []string {
	f.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(f.t.Context(), f.options.Storage, prefix)
	require.NoError(f.t, err)
	return keys
}

func TestPrefix(t *testing.T) {
	t.Run("keeps_sessions_apart", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m, other := session.NewManager(f.options), f.besides("token")
			f.works(m)
			f.works(other)
			require.Len(t, f.keys(session.StoragePrefix), 1)
			require.Len(t, f.keys(session.AccessPrefix+"invoices/"), 1)

			require.NoError(t, f.own("second", "").Supersede(t.Context()))
			require.Empty(t, f.keys(session.StoragePrefix))
			f.works(f.besides("token"))
			require.Equal(t, 2, f.count(submit), "the session of the other prefix stays")

			require.NoError(t, f.besides("another token").End(t.Context(), true))
			require.Zero(t, f.open())
			require.Empty(t, f.keys(""))
		})
	})
	t.Run("numbers_are_kept_apart", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			require.NoError(t, f.besides("token").Login(t.Context(), taxpayer))
			require.Empty(t, f.unstored())
			require.Len(t, f.keys(session.UnstoredAccessPrefix+"invoices/"), 1)
			elapse(9 * 24 * time.Hour)
			require.NoError(t, session.DropUnstored(t.Context(), f.options.Storage))
			require.Empty(t, f.keys(""))
		})
	})
	t.Run("expired_sessions_are_dropped_under_each", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			f.works(session.NewManager(f.options))
			f.works(f.besides("token"))
			elapse(7*24*time.Hour + 23*time.Hour)
			require.NoError(t, session.DropEnded(t.Context(), f.options.Storage))
			require.Len(t, f.keys(""), 2, "they are kept for a day")
			elapse(2 * time.Hour)
			require.NoError(t, session.DropEnded(t.Context(), f.options.Storage))
			require.Empty(t, f.keys(""))
		})
	})
}

func TestBegin_loginWithAToken(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		made, err := apiOf(session.NewManager(f.options)).GenerateToken(t.Context(), client.TokenRequest{
			Description: "a token to log in with", Permissions: []string{"InvoiceRead"},
		})
		require.NoError(t, err)
		elapse(time.Minute)
		f.options.ConfigFingerprint = "token"
		f.options.Begin = func(ctx context.Context, auth *client.Client, taxpayer client.ContextIdentifier) (*client.Operation, string, error) {
			return auth.BeginTokenLogin(ctx, client.TokenLogin{Taxpayer: taxpayer, Token: made.Token})
		}
		f.works(session.NewManager(f.options))
		require.Equal(t, 1, f.count(client.EndpointKSeFToken))
		require.Equal(t, 1, f.count(submit))
	})
}

func TestForcedRenewal(t *testing.T) {
	t.Run("refreshes_a_valid_access_token", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			for range 3 {
				renewed, err := m.Renew(t.Context(), taxpayer)
				require.NoError(t, err)
				require.WithinDuration(t, time.Now().Add(15*time.Minute), renewed.Access.ValidUntil, time.Second)
				elapse(time.Minute)
			}
			require.Equal(t, 1, f.count(submit))
			require.Equal(t, 2, f.count(refresh))
		})
	})
	t.Run("measures_the_end_of_a_stored_session_anew", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			f.works(session.NewManager(f.options))
			elapse(time.Minute)
			renewed, err := session.NewManager(f.options).Renew(t.Context(), taxpayer)
			require.NoError(t, err)
			require.WithinDuration(t, time.Now().Add(15*time.Minute), renewed.Access.ValidUntil, time.Second)
			require.Equal(t, 1, f.count(refresh))
			require.Equal(t, 1, f.count(submit))
		})
	})
	t.Run("logs_in_where_the_session_has_ended", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			f.works(m)
			require.NoError(t, f.options.Client.EndSession(t.Context(), m.Sessions()[0].Refresh.Token))
			_, err := m.Renew(t.Context(), taxpayer)
			require.NoError(t, err)
			require.Equal(t, 2, f.count(submit))
		})
	})
	t.Run("remembers_a_refusal", func(t *testing.T) {
		inBubble(t, simulator.Options{OwnerPermissions: []string{}}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			for range 10 {
				_, err := m.Renew(t.Context(), taxpayer)
				require.ErrorContains(t, err, "415")
			}
			require.Equal(t, 1, f.count(submit))
		})
	})
}

func TestLoginAgain(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		f.works(m)
		before := m.Sessions()[0].ReferenceNumber
		after, err := m.LoginAgain(t.Context(), taxpayer)
		require.NoError(t, err)
		require.NotEqual(t, before, after.ReferenceNumber)
		require.Equal(t, 1, f.open(), "the session before has ended")
		require.Empty(t, f.unstored())

		f.works(session.NewManager(f.options))
		require.Equal(t, 2, f.count(submit), "the new session is stored")

		f.fault(submit, simulator.FaultStatus, 1)
		_, err = m.LoginAgain(t.Context(), taxpayer)
		require.Error(t, err)
		require.Equal(t, 1, f.open(), "a failed login ends nothing")
		require.Equal(t, after.ReferenceNumber, m.Sessions()[0].ReferenceNumber)
	})
}
