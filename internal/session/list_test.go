// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// TestListedSessions lists twelve sessions in two pages and ends one of them by its number.
func TestListedSessions(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
		m := session.NewManager(f.options)
		for range 12 {
			require.NoError(t, m.Login(t.Context(), taxpayer))
		}
		access, err := m.Access(t.Context(), taxpayer)
		require.NoError(t, err)
		api, query := f.options.Client.WithTokenSource(access), client.SessionQuery{}
		list := func() (listed []client.Session) {
			for more := true; more; more = query.Continuation != "" {
				page, err := api.QuerySessions(t.Context(), query)
				require.NoError(t, err)
				listed, query.Continuation = append(listed, page.Sessions...), page.Continuation
			}
			return listed
		}
		listed := list()
		require.Len(t, listed, 12)
		for i, one := range listed {
			require.Equal(t, i == 0, one.Current, "the last login comes first")
			require.True(t, one.Redeemed)
			require.Equal(t, client.LoginDone, one.Status.Code)
			require.NotNil(t, one.RefreshValidUntil)
		}
		require.Equal(t, m.Sessions()[0].ReferenceNumber, listed[0].ReferenceNumber)

		last := listed[11]
		require.NoError(t, api.EndSessionByNumber(t.Context(), last.ReferenceNumber))
		require.Equal(t, 11, f.open())
		for _, one := range list() {
			require.False(t, one.ReferenceNumber == last.ReferenceNumber && one.Status.Code == client.LoginDone)
		}
	})
}
