// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	t.Run("one_login_for_all_readers", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			var wait sync.WaitGroup
			for range 50 {
				wait.Go(func() { f.read(tokens, keyOf("invoices", 0)) })
			}
			wait.Wait()
			f.works(f.read(tokens, keyOf("invoices", 0)))
			require.Equal(t, 1, f.count(submit))
			require.Equal(t, []error{nil}, f.events)
		})
	})
	t.Run("each_key_has_a_session_of_its_own", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			static := keyOf("invoices", 0)
			static.Static = true
			numbers := map[string]bool{}
			for _, key := range []accesstoken.Key{keyOf("invoices", 0), keyOf("invoices", 1), keyOf("in/../voices\n", 0), static} {
				numbers[f.read(tokens, key).SessionNumber] = true
			}
			require.Len(t, numbers, 4)
			require.Len(t, f.keys("access-sessions/"), 4)
			require.Empty(t, f.keys("sessions/"))
		})
	})
	t.Run("is_free", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			before := f.requests()
			for range 10_000 {
				f.read(tokens, keyOf("invoices", 0))
			}
			require.Equal(t, before, f.requests())
		})
	})
	t.Run("says_when_the_next_refresh_is", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			require.Equal(t, 4*time.Minute, first.RefreshPeriod)
			require.Equal(t, 4*time.Minute, first.TTL)
			require.Equal(t, first.FetchedAt.Add(15*time.Minute), first.ExpiresAt)
			elapse(100*time.Second + 300*time.Millisecond)
			require.Equal(t, 140*time.Second, f.read(tokens, keyOf("invoices", 0)).TTL)
			elapse(138 * time.Second)
			require.Equal(t, 5*time.Second, f.read(tokens, keyOf("invoices", 0)).TTL)
			elapse(5 * time.Second)
			next := f.read(tokens, keyOf("invoices", 0))
			require.NotEqual(t, first.AccessToken, next.AccessToken)
			require.Equal(t, first.SessionNumber, next.SessionNumber)
		})
	})
	t.Run("goes_by_the_clock_of_KSeF", func(t *testing.T) {
		inBubble(t, simulator.Options{ClockOffset: -time.Hour}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			for range 60 {
				f.works(f.read(tokens, keyOf("invoices", 0)))
				elapse(time.Minute)
			}
			require.Equal(t, 1, f.count(submit))
			require.LessOrEqual(t, f.count(refresh), 15)
		})
	})
	t.Run("caller_that_leaves_ends_no_login", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := tokens.Read(ctx, keyOf("invoices", 0))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			elapse(5 * time.Second)
			f.read(tokens, keyOf("invoices", 0))
			require.Equal(t, 1, f.count(submit))
		})
	})
	t.Run("before_the_start_it_logs_in_too", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(_ *testing.T, f *fixture) {
			tokens := accesstoken.New(f.options())
			defer tokens.Stop()
			f.works(f.read(tokens, keyOf("invoices", 0)))
		})
	})
	t.Run("after_the_stop_it_is_refused", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			tokens.Stop()
			_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
			require.ErrorIs(t, err, accesstoken.ErrStopped)
			requireStatus(t, unavailable, err)
			_, err = tokens.Renew(t.Context(), keyOf("invoices", 0))
			require.ErrorIs(t, err, accesstoken.ErrStopped)
			require.Zero(t, f.requests())
		})
	})
	t.Run("stop_ends_a_login_in_progress", func(t *testing.T) {
		inBubble(t, simulator.Options{LoginDelay: time.Minute}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			var err error
			var wait sync.WaitGroup
			wait.Go(func() { _, err = tokens.Read(t.Context(), keyOf("invoices", 0)) })
			synctest.Wait()
			began := time.Now()
			tokens.Stop()
			wait.Wait()
			require.ErrorIs(t, err, accesstoken.ErrStopped)
			require.Zero(t, time.Since(began))
		})
	})
	t.Run("without_a_record_it_does_not_log_in", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.storage.Underlying().FailPut(true)
			_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
			require.ErrorContains(t, err, "storing when an access token was read")
			require.Zero(t, f.requests())
			f.storage.Underlying().FailPut(false)
			f.read(tokens, keyOf("invoices", 0))
		})
	})
	t.Run("login_refused_is_not_repeated_with_each_read", func(t *testing.T) {
		inBubble(t, simulator.Options{RequireGrants: true}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			for range 20 {
				_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
				require.ErrorAs(t, err, new(*client.LoginError))
				elapse(time.Minute)
			}
			require.Equal(t, 1, f.count(submit))
		})
	})
	t.Run("login_by_what_has_replaced_a_dead_token", func(t *testing.T) {
		inBubble(t, simulator.Options{RequireGrants: true}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			owner := f.signer(simulator.CertificateOptions{NIP: keyOf("invoices", 0).Taxpayer.Value})
			f.repair = func(l *accesstoken.Login) { l.Begin, l.Fingerprint = owner, "second" }
			f.works(f.read(tokens, keyOf("invoices", 0)))
			require.Equal(t, 2, f.count(submit))

			f.set(func(l *accesstoken.Login) {
				l.Begin, l.Fingerprint = f.signer(simulator.CertificateOptions{PESEL: pesel}), "third"
			})
			renewed, err := tokens.Renew(t.Context(), keyOf("invoices", 0))
			require.NoError(t, err)
			f.works(renewed)
			require.Equal(t, 4, f.count(submit))
		})
	})
	t.Run("error_of_the_login_is_that_of_the_read", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			gone := &client.InputError{Field: "role", Fault: "is gone", Remedy: "write it"}
			f.fail(gone)
			_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
			require.Equal(t, error(gone), err)
			f.fail(nil)
			f.read(tokens, keyOf("invoices", 0))
		})
	})
	t.Run("panic_stays_in_its_read", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			options := f.options()
			options.Login = func(context.Context, accesstoken.Key) (accesstoken.Login, error) { panic(errors.New("oops")) }
			tokens := accesstoken.New(options)
			defer tokens.Stop()
			for range 2 {
				_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
				require.ErrorContains(t, err, "failed")
			}
		})
	})
}

func TestOutage(t *testing.T) {
	t.Run("answers_the_last_one_until_a_minute_before_its_end", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			last := f.read(tokens, keyOf("invoices", 0))
			f.away()
			for time.Until(last.ExpiresAt) > time.Minute {
				token := f.read(tokens, keyOf("invoices", 0))
				require.Equal(t, last.AccessToken, token.AccessToken)
				require.Equal(t, time.Since(last.FetchedAt) >= 4*time.Minute, token.Warning != "", "%s", token.Warning)
				elapse(10 * time.Second)
			}
			elapse(time.Second)
			_, err := tokens.Read(t.Context(), keyOf("invoices", 0))
			requireStatus(t, unavailable, err)
			require.ErrorContains(t, err, "KSeF gives no access token now")

			f.ksef.ClearFaults()
			elapse(5 * time.Second)
			require.Empty(t, f.read(tokens, keyOf("invoices", 0)).Warning)
			require.Equal(t, 1, f.count(submit))
		})
	})
	t.Run("ends_unnoticed", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			last := f.read(tokens, keyOf("invoices", 0))
			f.away()
			elapse(10 * time.Minute)
			f.ksef.ClearFaults()
			elapse(15 * time.Second)
			token := f.read(tokens, keyOf("invoices", 0))
			require.NotEqual(t, last.AccessToken, token.AccessToken)
			require.Empty(t, token.Warning)
			require.Greater(t, token.TTL, 3*time.Minute)
		})
	})
	t.Run("of_a_day_is_asked_seldom", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			f.away()
			elapse(20 * time.Hour)
			require.LessOrEqual(t, f.count(refresh), 700)
			f.ksef.ClearFaults()
			elapse(5 * time.Minute)
			f.read(tokens, keyOf("invoices", 0))
			require.Equal(t, 1, f.count(submit))
		})
	})
}
