// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestChanged(t *testing.T) {
	t.Run("other_login_means_a_new_session", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			f.set(func(l *accesstoken.Login) { l.Fingerprint = "second" })
			tokens.Changed(func(key accesstoken.Key) bool { return key.Role == "invoices" })
			next := f.read(tokens, keyOf("invoices", 0))
			require.NotEqual(t, first.SessionNumber, next.SessionNumber)
			elapse(time.Second)
			require.Equal(t, []string{next.SessionNumber}, f.open())
			require.Len(t, f.keys("access-sessions/"), 1)
			require.Empty(t, f.keys("unstored-access-sessions/"))
		})
	})
	t.Run("same_login_asks_nothing", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			before := f.requests()
			f.set(func(l *accesstoken.Login) { l.KSeF = f.at(l.API) })
			tokens.Changed(nil)
			require.Equal(t, first.AccessToken, f.read(tokens, keyOf("invoices", 0)).AccessToken)
			require.Equal(t, before, f.requests())
			elapse(10 * time.Minute)
			f.read(tokens, keyOf("invoices", 0))
			require.Equal(t, 1, f.count(submit))
		})
	})
	t.Run("of_other_keys_is_no_matter", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(_ *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			f.fail(errors.New("the role is gone"))
			tokens.Changed(func(key accesstoken.Key) bool { return key.Role != "invoices" })
			f.read(tokens, keyOf("invoices", 0))
		})
	})
	t.Run("role_that_is_gone_is_not_answered_from_memory", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			f.fail(errors.New("the role is gone"))
			tokens.Changed(nil)
			_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
			require.ErrorContains(t, err, "the role is gone")
		})
	})
	t.Run("same_login_during_an_outage", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			f.away()
			elapse(8 * time.Minute)
			tokens.Changed(nil)
			require.Equal(t, first.AccessToken, f.read(tokens, keyOf("invoices", 0)).AccessToken)
		})
	})
	t.Run("in_the_middle_of_a_login", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			var token *accesstoken.Token
			var err error
			var wait sync.WaitGroup
			wait.Go(func() { token, err = tokens.Read(t.Context(), keyOf("invoices", 0)) })
			elapse(time.Second)
			f.set(func(l *accesstoken.Login) { l.Fingerprint = "second" })
			tokens.Changed(nil)
			wait.Wait()
			require.NoError(t, err)
			elapse(time.Second)
			require.Equal(t, []string{token.SessionNumber}, f.open())
			require.Equal(t, 2, f.count(submit))
		})
	})
	t.Run("other_KSeF_does_not_get_the_tokens_of_this", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			f.set(func(l *accesstoken.Login) { l.KSeF = f.at("https://other.test/v2") })
			tokens.Changed(nil)
			next := f.read(tokens, keyOf("invoices", 0))
			elapse(time.Second)
			require.NotEqual(t, first.SessionNumber, next.SessionNumber)
			require.Zero(t, f.count(refresh)+f.count(client.EndpointEndSession)+f.count(client.EndpointEndNumbered))
		})
	})
	t.Run("while_the_process_is_away", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			before := f.start()
			f.read(before, keyOf("invoices", 0))
			before.Stop()
			f.set(func(l *accesstoken.Login) { l.Fingerprint = "second" })
			next := f.read(f.start(), keyOf("invoices", 0))
			elapse(time.Second)
			require.Equal(t, []string{next.SessionNumber}, f.open(), "the session before has ended")
		})
	})
	t.Run("session_that_KSeF_does_not_end_is_ended_later", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: client.EndpointEndSession, Kind: simulator.FaultStatus, Status: 500}))
			f.set(func(l *accesstoken.Login) { l.Fingerprint = "second" })
			tokens.Changed(nil)
			f.read(tokens, keyOf("invoices", 0))
			elapse(time.Second)
			require.Len(t, f.open(), 2)
			elapse(4 * time.Minute)
			require.Len(t, f.open(), 1)
		})
	})
}

func TestRenew(t *testing.T) {
	t.Run("makes_a_new_session_and_ends_the_one_before", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			elapse(time.Minute)
			renewed, err := tokens.Renew(t.Context(), keyOf("invoices", 0))
			require.NoError(t, err)
			require.NotEqual(t, first.SessionNumber, renewed.SessionNumber)
			require.Equal(t, 4*time.Minute, renewed.TTL)
			require.Equal(t, []string{renewed.SessionNumber}, f.open())
			require.Equal(t, renewed.AccessToken, f.read(tokens, keyOf("invoices", 0)).AccessToken)
		})
	})
	t.Run("of_a_session_of_the_process_before", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			before := f.start()
			f.read(before, keyOf("invoices", 0))
			before.Stop()
			tokens := accesstoken.New(f.options())
			defer tokens.Stop()
			renewed, err := tokens.Renew(t.Context(), keyOf("invoices", 0))
			require.NoError(t, err)
			require.Equal(t, []string{renewed.SessionNumber}, f.open())
		})
	})
	t.Run("failure_leaves_the_one_before", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			f.away()
			_, err := tokens.Renew(t.Context(), keyOf("invoices", 0))
			requireStatus(t, unavailable, err)
			require.Equal(t, first.AccessToken, f.read(tokens, keyOf("invoices", 0)).AccessToken)
			require.Len(t, f.open(), 1)
		})
	})
	t.Run("goes_on_where_the_caller_leaves", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := tokens.Renew(ctx, keyOf("invoices", 0))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			elapse(5 * time.Second)
			require.NotEqual(t, first.SessionNumber, f.read(tokens, keyOf("invoices", 0)).SessionNumber)
			require.Len(t, f.open(), 1)
		})
	})
}

func TestEnd(t *testing.T) {
	t.Run("leaves_nothing_of_the_key", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			kept := f.read(tokens, keyOf("invoices", 1))
			require.NoError(t, tokens.End(t.Context(), keyOf("invoices", 0)))
			require.Equal(t, []string{kept.SessionNumber}, f.open())
			require.Len(t, f.keys("access-"), 2)
			elapse(time.Hour)
			require.Len(t, f.open(), 1, "it does not come back by itself")
			f.read(tokens, keyOf("invoices", 0))
			require.Equal(t, 3, f.count(submit))
		})
	})
	t.Run("of_a_role", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			for n := range 20 {
				f.read(tokens, keyOf("invoices", n))
			}
			kept := keyOf("invoices", 0)
			kept.Static = true
			f.read(tokens, kept)
			require.NoError(t, tokens.EndRole(t.Context(), "invoices", false))
			require.Len(t, f.open(), 1)
			require.Len(t, f.keys("access-"), 2)
			require.NoError(t, tokens.EndRole(t.Context(), "invoices", true))
			require.Empty(t, f.open())
			require.Empty(t, f.keys(""))
		})
	})
	t.Run("of_a_role_that_this_process_has_not_read", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			before := f.start()
			for n := range 3 {
				f.read(before, keyOf("invoices", n))
			}
			before.Stop()
			tokens := accesstoken.New(f.options())
			defer tokens.Stop()
			f.fail(errors.New("the role is gone"))
			require.NoError(t, tokens.EndRole(t.Context(), "invoices", false))
			require.Empty(t, f.open())
			require.Empty(t, f.keys(""))
		})
	})
	t.Run("of_all_after_the_stop", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			f.read(tokens, keyOf("others", 1))
			tokens.Stop()
			require.NoError(t, tokens.EndAll(t.Context()))
			require.Empty(t, f.open())
			require.Empty(t, f.keys(""))
		})
	})
	t.Run("waits_for_a_login_in_progress", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			go func() { _, _ = tokens.Read(t.Context(), keyOf("invoices", 0)) }()
			elapse(time.Second)
			require.NoError(t, tokens.EndRole(t.Context(), "invoices", false))
			require.Empty(t, f.open())
		})
	})
	t.Run("of_a_session_that_a_reader_has_ended", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			require.NoError(t, f.login.Client.EndSession(t.Context(), f.read(tokens, keyOf("invoices", 0)).AccessToken))
			require.NoError(t, tokens.EndRole(t.Context(), "invoices", false))
			require.Empty(t, f.keys(""))
		})
	})
	for name, ask := range map[string]func(*accesstoken.Tokens, context.Context, accesstoken.Key) (*accesstoken.Token, error){
		"reads_wait_for_it": (*accesstoken.Tokens).Read, "renewals_wait_for_it": (*accesstoken.Tokens).Renew,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
				tokens := f.start()
				first := f.read(tokens, keyOf("invoices", 0))
				require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: client.EndpointEndSession, Kind: simulator.FaultDelay, Delay: 5 * time.Second}))
				var wait sync.WaitGroup
				wait.Go(func() { _ = tokens.End(t.Context(), keyOf("invoices", 0)) })
				elapse(time.Second)
				next, err := ask(tokens, t.Context(), keyOf("invoices", 0))
				require.NoError(t, err)
				require.NotEqual(t, first.SessionNumber, next.SessionNumber)
				wait.Wait()
				require.Equal(t, 2, f.count(submit))
				require.Zero(t, f.count(refresh), "the key has one entry")
				require.Equal(t, []string{next.SessionNumber}, f.open())
			})
		})
	}
	t.Run("goes_on_after_an_outage", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			f.storage.Underlying().FailDelete(true)
			require.Error(t, tokens.End(t.Context(), keyOf("invoices", 0)))
			f.storage.Underlying().FailDelete(false)
			require.Len(t, f.open(), 1)
			elapse(6 * time.Minute)
			require.Empty(t, f.open())
			require.Empty(t, f.keys(""))
		})
	})
}
