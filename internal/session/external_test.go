// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

const clerk = "Pesel:90010112345"

// external is a manager that cannot sign, on the fixture's storage.
func (f *fixture) external() *session.Manager {
	options := f.options
	options.Begin, options.ConfigFingerprint, options.ExternalFingerprint = nil, "without a key", "outside"
	return session.NewManager(options)
}

// own is a manager that signs.
func (f *fixture) own(identity, subject string) *session.Manager {
	options := f.options
	options.ConfigFingerprint, options.ExternalFingerprint, options.Subject = identity, "outside", subject
	return session.NewManager(options)
}

// signed is a login that was signed outside of Vault.
func (f *fixture) signed(subject string) *session.Session {
	f.t.Helper()
	elsewhere := session.NewManager(f.options)
	require.NoError(f.t, elsewhere.Login(f.t.Context(), taxpayer))
	login := elsewhere.Sessions()[0]
	login.External, login.Subject = true, subject
	return &login
}

func (f *fixture) open() int {
	open := 0
	for _, one := range f.ksef.State().Sessions {
		if one.Active {
			open++
		}
	}
	return open
}

func TestExternal_isTheOnlyLoginWithoutASigner(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := f.external()
		_, err := m.Access(t.Context(), taxpayer)
		var input *client.InputError
		require.ErrorAs(t, err, &input)
		require.ErrorContains(t, err, "login/begin")
		require.Empty(t, f.ksef.State().Requests)

		require.NoError(t, m.Keep(t.Context(), f.signed(clerk)))
		f.works(m)
		require.Equal(t, clerk, m.SubjectIn(taxpayer))
		elapse(6 * 24 * time.Hour)
		f.works(f.external())
		elapse(2 * 24 * time.Hour)
		_, err = f.external().Access(t.Context(), taxpayer)
		require.ErrorAs(t, err, &input)
		require.Equal(t, 1, f.count(submit))
	})
}

func TestExternal_replacesTheOneBefore(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := f.external()
		require.NoError(t, m.Keep(t.Context(), f.signed(clerk)))
		elapse(time.Hour)
		require.NoError(t, m.Keep(t.Context(), f.signed(clerk)))
		require.Equal(t, 1, f.open())
		f.works(f.external())
	})
}

func TestExternal_storedByAnotherManagerIsFound(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		other := f.external()
		_, err := other.Access(t.Context(), taxpayer)
		require.Error(t, err)
		require.NoError(t, f.external().Keep(t.Context(), f.signed(clerk)))
		elapse(time.Minute)
		f.works(other)
	})
}

func TestReplaceWith(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		first, second, third := f.own("first", clerk), f.own("second", clerk), f.own("third", clerk)
		f.works(first)
		api := apiOf(first)
		first.ReplaceWith(second)
		second.ReplaceWith(third)
		_, err := api.QueryTokens(t.Context(), client.TokenQuery{})
		require.NoError(t, err)
		_, err = first.Replace(t.Context(), taxpayer, &session.Session{})
		require.NoError(t, err)
		require.Empty(t, second.Sessions())
		require.Len(t, third.Sessions(), 1)
	})
}

func TestProve(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		require.NoError(t, f.external().Keep(t.Context(), f.signed(clerk)))
		require.NoError(t, f.own("next", clerk).Prove(t.Context(), taxpayer))
		require.Equal(t, 2, f.count(submit), "the person's login proves nothing of the signer")
		again := f.own("next", clerk)
		require.NoError(t, again.Prove(t.Context(), taxpayer))
		require.Equal(t, 2, f.count(submit), "a login that was stored is not made twice")
		known, err := again.Known(t.Context(), taxpayer)
		require.NoError(t, err)
		require.False(t, known.External)
	})
}

func TestSupersede(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		before := f.own("before", clerk)
		f.works(before)
		elsewhere := f.signed(clerk)
		elsewhere.Context.Value, elsewhere.API = "1111111111", "https://another.test/v2"
		require.NoError(t, f.external().Keep(t.Context(), elsewhere))
		stranger := f.signed("Nip:1111111111")
		stranger.Context.Value = "8888888888"
		require.NoError(t, f.external().Keep(t.Context(), stranger))
		require.NoError(t, f.external().Keep(t.Context(), f.signed(clerk)))
		require.Equal(t, 4, f.open())

		elapse(time.Minute)
		next := f.own("next", clerk)
		require.NoError(t, next.Prove(t.Context(), taxpayer))
		require.NoError(t, next.Supersede(t.Context()))
		require.Equal(t, 3, f.open(), "the new one, that of another subject, and that of another KSeF")
		f.works(next)
		all, err := f.external().All(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 2)
	})
}
