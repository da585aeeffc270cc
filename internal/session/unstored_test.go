// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	redeem      = "POST /auth/token/redeem"
	endNumbered = "DELETE /auth/sessions/{referenceNumber}"
)

func (f *fixture) fault(endpoint string, kind simulator.FaultKind, times int) {
	f.t.Helper()
	require.NoError(f.t, f.ksef.AddFault(simulator.Fault{Endpoint: endpoint, Kind: kind, Times: times, Status: 500}))
}

func (f *fixture) unstored() []string {
	f.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(f.t.Context(), f.options.Storage, session.UnstoredPrefix)
	require.NoError(f.t, err)
	return keys
}

func TestUnstored(t *testing.T) {
	t.Run("login_that_succeeds_leaves_nothing", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			f.works(session.NewManager(f.options))
			require.Empty(t, f.unstored())
			require.Zero(t, f.count(endNumbered))
		})
	})
	t.Run("redeem_reply_lost", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			f.fault(redeem, simulator.FaultDropResponse, 2)
			for range 2 {
				_, err := m.Access(t.Context(), taxpayer)
				require.Error(t, err)
				elapse(5 * time.Second)
			}
			require.Equal(t, 2, f.open())
			f.works(m)
			require.Equal(t, 1, f.open(), "sessions are left open")
			require.Empty(t, f.unstored())
			elapse(14 * time.Minute)
			f.works(m)
		})
	})
	t.Run("login_refused", func(t *testing.T) {
		inBubble(t, simulator.Options{OwnerPermissions: []string{}}, func(t *testing.T, f *fixture) {
			_, err := session.NewManager(f.options).Access(t.Context(), taxpayer)
			require.ErrorContains(t, err, "415")
			require.Empty(t, f.unstored())
		})
	})
	t.Run("process_ends_after_the_redeem", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			require.NoError(t, session.NewManager(f.options).Login(t.Context(), taxpayer))
			require.Len(t, f.unstored(), 1)
			m := session.NewManager(f.options)
			f.works(m)
			require.Equal(t, 2, f.open(), "a login of another manager may be in progress")
			elapse(14 * time.Minute)
			f.works(m)
			require.Equal(t, 1, f.open())
			require.Empty(t, f.unstored())
			elapse(14 * time.Minute)
			f.works(m)
			require.Equal(t, 1, f.count(endNumbered))
		})
	})
	t.Run("storage_fails", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			storage := &logical.InmemStorage{}
			f.options.Storage = storage
			m := session.NewManager(f.options)
			f.works(m)
			elapse(8 * 24 * time.Hour)
			storage.Underlying().FailPut(true)
			f.works(m)
			storage.Underlying().FailPut(false)
			elapse(14 * time.Minute)
			f.works(m)
			require.Equal(t, 1, f.open(), "the session in memory is not ended")
		})
	})
	t.Run("stored_session_is_not_ended", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			storage := &logical.InmemStorage{}
			f.options.Storage = storage
			storage.Underlying().FailDelete(true)
			f.works(session.NewManager(f.options))
			storage.Underlying().FailDelete(false)
			require.Len(t, f.unstored(), 1)
			elapse(20 * time.Minute)
			m := session.NewManager(f.options)
			f.works(m)
			require.Equal(t, 1, f.open())
			require.Equal(t, 1, f.count(submit))
			require.Zero(t, f.count(endNumbered))
		})
	})
	t.Run("session_of_another_subject_is_left_alone", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := f.own("first", clerk)
			kept, err := m.Lost(t.Context(), &session.Session{
				ReferenceNumber: "20250625-AU-20F5EE4000-DA48AE4124-46", Context: taxpayer, API: f.options.Client.URL(), Subject: "Pesel:44051401359",
			})
			require.NoError(t, err)
			require.False(t, kept)
			f.works(m)
			require.Zero(t, f.count(endNumbered))
			require.Len(t, f.unstored(), 1)
			elapse(9 * 24 * time.Hour)
			require.NoError(t, session.DropUnstored(t.Context(), f.options.Storage))
			require.Empty(t, f.unstored())
		})
	})
	t.Run("ksef_does_not_end_it", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			f.fault(redeem, simulator.FaultDropResponse, 1)
			_, err := m.Access(t.Context(), taxpayer)
			require.Error(t, err)
			elapse(5 * time.Second)
			f.fault(endNumbered, simulator.FaultStatus, 1)
			f.works(m)
			for range 10 {
				require.NoError(t, m.RefreshOrLogin(t.Context(), taxpayer))
			}
			require.Equal(t, 1, f.count(endNumbered), "it is not tried with each request")
			elapse(14 * time.Minute)
			f.works(m)
			require.Equal(t, 1, f.open())
		})
	})
	t.Run("numbers_are_bounded", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			f.fault(redeem, simulator.FaultDropResponse, -1)
			for range 50 {
				_, err := m.Access(t.Context(), taxpayer)
				require.Error(t, err)
				elapse(5 * time.Second)
			}
			require.LessOrEqual(t, len(f.unstored()), 20)
		})
	})
	t.Run("replaced_after_two_refusals", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := session.NewManager(f.options)
			f.works(m)
			elapse(time.Minute)
			require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: "GET /tokens", Kind: simulator.FaultStatus, Status: 401, Times: 2}))
			f.works(m)
			require.Equal(t, 2, f.count(submit))
			require.Equal(t, 1, f.open())
		})
	})
	t.Run("persons_login_that_was_lost", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			m := f.external()
			lost := f.signed(clerk)
			kept, err := m.Lost(t.Context(), lost)
			require.NoError(t, err)
			require.False(t, kept)
			require.NoError(t, m.Keep(t.Context(), f.signed(clerk)))
			f.works(m)
			require.Equal(t, 1, f.open())
			kept, err = m.Lost(t.Context(), &m.Sessions()[0])
			require.NoError(t, err)
			require.True(t, kept)
		})
	})
	t.Run("damaged_entry", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			require.NoError(t, session.NewManager(f.options).Login(t.Context(), taxpayer))
			key := f.unstored()[0]
			require.NoError(t, f.options.Storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte("{")}))
			f.works(session.NewManager(f.options))
			require.Equal(t, 1, f.open())
			require.Empty(t, f.unstored())
		})
	})
}
