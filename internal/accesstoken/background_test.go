// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// unlimited is a KSeF whose limits are of no matter: this package's callers keep to them.
var unlimited = simulator.Options{Limits: simulator.Limits{Client: simulator.Windows{PerSecond: -1, PerMinute: -1, PerHour: -1}}}

func TestTwoWeeks(t *testing.T) {
	inBubble(t, simulator.Options{LoginDelay: 3 * time.Second}, func(t *testing.T, f *fixture) {
		tokens := f.start()
		began := time.Now()
		f.read(tokens, keyOf("invoices", 0))
		for time.Since(began) < 14*24*time.Hour {
			asked := time.Now()
			f.works(f.read(tokens, keyOf("invoices", 0)))
			require.Zero(t, time.Since(asked), "a read waits after %s", time.Since(began))
			elapse(5 * time.Minute)
		}
		require.LessOrEqual(t, f.count(submit), 3, "the first, and one for each seven days")
		require.Len(t, f.open(), 1, "sessions are left open")
		require.LessOrEqual(t, f.count(refresh), 14*24*15+3)
	})
}

func TestShortLife(t *testing.T) {
	for life, period := range map[time.Duration]time.Duration{2 * time.Minute: 24 * time.Second, 10 * time.Minute: 2 * time.Minute} {
		t.Run(life.String(), func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
				f.life = life
				tokens := f.start()
				elapse(time.Second)
				require.Equal(t, period, f.read(tokens, keyOf("invoices", 0)).RefreshPeriod)
				for range 600 {
					asked := time.Now()
					token := f.read(tokens, keyOf("invoices", 0))
					require.Zero(t, time.Since(asked), "a read waits")
					require.LessOrEqual(t, time.Since(token.FetchedAt), period+time.Second)
					elapse(time.Second)
				}
				require.Equal(t, 1, f.count(submit))
				require.LessOrEqual(t, f.count(refresh), int(10*time.Minute/period)+1)
			})
		})
	}
}

func TestLoginAhead(t *testing.T) {
	t.Run("replaces_a_session_before_its_end", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			for range 7*24 - 1 {
				f.read(tokens, keyOf("invoices", 0))
				elapse(time.Hour)
			}
			elapse(45 * time.Minute)
			require.Equal(t, 1, f.count(submit))
			elapse(14 * time.Minute)
			require.Equal(t, 2, f.count(submit))
		})
	})
	t.Run("that_fails_costs_no_access_token", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			for range 7*24 - 1 {
				f.read(tokens, keyOf("invoices", 0))
				elapse(time.Hour)
			}
			require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: submit, Kind: simulator.FaultStatus, Status: 500, Times: -1}))
			elapse(59 * time.Minute)
			require.Greater(t, f.count(submit), 1)
			require.Greater(t, time.Until(f.read(tokens, keyOf("invoices", 0)).ExpiresAt), 10*time.Minute)
		})
	})
}

func TestWorkers(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, f *fixture) {
		before := f.start()
		for n := range 50 {
			f.read(before, keyOf("invoices", n))
		}
		before.Stop()
		require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: refresh, Kind: simulator.FaultDelay, Delay: 5 * time.Second, Times: -1}))
		f.start()
		elapse(time.Minute)
		require.Equal(t, 50, f.count(refresh))
		require.Equal(t, 8, f.atOnce)
	})
}

func TestRefusedRefresh(t *testing.T) {
	t.Run("logs_in_anew_in_the_background", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			first := f.read(tokens, keyOf("invoices", 0))
			require.NoError(t, f.login.Client.EndSession(t.Context(), first.AccessToken))
			for range 20 {
				elapse(30 * time.Second)
				f.read(tokens, keyOf("invoices", 0))
			}
			require.Equal(t, 2, f.count(submit))
			require.NotEqual(t, first.SessionNumber, f.read(tokens, keyOf("invoices", 0)).SessionNumber)
		})
	})
	t.Run("session_that_another_ends_each_minute", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			for range 60 {
				token := f.read(tokens, keyOf("invoices", 0))
				_ = f.login.Client.EndSession(t.Context(), token.AccessToken)
				elapse(time.Minute)
			}
			require.LessOrEqual(t, f.count(submit), 16, "one login for each refresh")
		})
	})
}

func TestUnread(t *testing.T) {
	t.Run("ends_after_a_day", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			lastRead := time.Now()
			f.read(tokens, keyOf("invoices", 0))
			elapse(23 * time.Hour)
			require.Len(t, f.open(), 1)
			require.Zero(t, f.unreadSince(keyOf("invoices", 0)))
			elapse(2 * time.Hour)
			require.Empty(t, f.open())
			require.WithinDuration(t, lastRead, f.unreadSince(keyOf("invoices", 0)), time.Minute)
			require.Empty(t, f.keys(""))
			before := f.requests()
			elapse(48 * time.Hour)
			require.Equal(t, before, f.requests(), "an unread one costs nothing")
			f.works(f.read(tokens, keyOf("invoices", 0)))
			require.Equal(t, 2, f.count(submit))
		})
	})
	t.Run("ends_after_a_restart", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			tokens.Stop()
			elapse(25 * time.Hour)
			f.start()
			elapse(time.Minute)
			require.Empty(t, f.open())
			require.Empty(t, f.keys(""))
			require.Equal(t, 1, f.count(submit))
		})
	})
	t.Run("ends_after_an_outage", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			tokens := f.start()
			f.read(tokens, keyOf("invoices", 0))
			elapse(23 * time.Hour)
			require.NoError(t, f.ksef.AddFault(simulator.Fault{Endpoint: client.EndpointEndSession, Kind: simulator.FaultStatus, Status: 500, Times: 2}))
			elapse(2 * time.Hour)
			require.Empty(t, f.keys("access-"), "the session and its record")
		})
	})
	t.Run("without_a_configuration_it_is_forgotten", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			first := f.start()
			f.read(first, keyOf("invoices", 0))
			first.Stop()
			elapse(25 * time.Hour)
			options := f.options()
			options.KSeF = func(context.Context) (accesstoken.KSeF, error) {
				return accesstoken.KSeF{}, &client.InputError{Field: "config"}
			}
			tokens := accesstoken.New(options)
			tokens.Start()
			defer tokens.Stop()
			elapse(time.Minute)
			require.Empty(t, f.keys("access-reads/"))
		})
	})
	t.Run("times_of_reads_are_stored_hourly", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, f *fixture) {
			counted := &countedStorage{Storage: f.storage}
			options := f.options()
			options.Storage = counted
			tokens := accesstoken.New(options)
			tokens.Start()
			defer tokens.Stop()
			for range 24 * 60 {
				f.read(tokens, keyOf("invoices", 0))
				elapse(time.Minute)
			}
			require.LessOrEqual(t, counted.count("put access-reads/"), 25)
			require.GreaterOrEqual(t, counted.count("put access-reads/"), 20)
		})
	})
}

func TestFailover(t *testing.T) {
	const taxpayers = 300
	readAll := func(f *fixture, tokens *accesstoken.Tokens) {
		var wait sync.WaitGroup
		for n := range taxpayers {
			wait.Go(func() { f.read(tokens, keyOf("invoices", n)) })
		}
		wait.Wait()
	}
	t.Run("costs_no_login_and_one_refresh_each", func(t *testing.T) {
		inBubble(t, unlimited, func(t *testing.T, f *fixture) {
			before := f.start()
			readAll(f, before)
			elapse(time.Minute)
			before.Stop()
			require.Equal(t, taxpayers, f.count(submit))
			refreshed := f.count(refresh)
			tokens := f.start()
			readAll(f, tokens)
			elapse(3*time.Minute + 50*time.Second)
			require.Equal(t, taxpayers, f.count(submit))
			require.Equal(t, refreshed+taxpayers, f.count(refresh))
		})
	})
	t.Run("unread_ones_are_refreshed_one_after_another", func(t *testing.T) {
		inBubble(t, unlimited, func(t *testing.T, f *fixture) {
			before := f.start()
			readAll(f, before)
			before.Stop()
			elapse(time.Hour)
			refreshed := f.count(refresh)
			f.start()
			for range 50 {
				at := f.count(refresh)
				elapse(time.Second)
				require.LessOrEqual(t, f.count(refresh)-at, 6)
			}
			elapse(20 * time.Second)
			require.Equal(t, refreshed+taxpayers, f.count(refresh))
			require.Equal(t, taxpayers, f.count(submit))
		})
	})
	t.Run("storage_is_read_as_often_as_there_are_keys", func(t *testing.T) {
		cost := func(n int) (reads int) {
			inBubble(t, unlimited, func(_ *testing.T, f *fixture) {
				before := f.start()
				for i := range n {
					f.read(before, keyOf("invoices", i))
				}
				before.Stop()
				counted := &countedStorage{Storage: f.storage}
				options := f.options()
				options.Storage = counted
				tokens := accesstoken.New(options)
				tokens.Start()
				elapse(2 * time.Minute)
				tokens.Stop()
				reads = counted.count("")
			})
			return reads
		}
		require.LessOrEqual(t, cost(200), 2*cost(100))
	})
	t.Run("damaged_record_stops_only_itself", func(t *testing.T) {
		inBubble(t, unlimited, func(t *testing.T, f *fixture) {
			before := f.start()
			for n := range 2 {
				f.read(before, keyOf("invoices", n))
			}
			before.Stop()
			damaged := f.keys("access-reads/")[0]
			require.NoError(t, f.storage.Put(t.Context(), &logical.StorageEntry{Key: damaged, Value: []byte("{")}))
			tokens := f.start()
			elapse(time.Minute)
			require.Equal(t, 1, f.count(refresh))
			for n := range 2 {
				f.read(tokens, keyOf("invoices", n))
			}
			require.Equal(t, 2, f.count(submit))
		})
	})
}

func TestMoved(t *testing.T) {
	for name, delay := range map[string]time.Duration{"fast": 0, "slow": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simulator.Options{LoginDelay: delay, Limits: unlimited.Limits}, testMoved)
		})
	}
}

func testMoved(t *testing.T, f *fixture) {
	const taxpayers = 50
	tokens := f.start()
	numbers := map[string]bool{}
	for n := range taxpayers {
		numbers[f.read(tokens, keyOf("invoices", n)).SessionNumber] = true
	}
	f.set(func(l *accesstoken.Login) {
		l.Begin, l.Fingerprint = f.signer(simulator.CertificateOptions{PESEL: pesel}), "second"
	})
	tokens.Moved()
	for range 25 {
		at := f.count(submit)
		for n := range taxpayers {
			asked := time.Now()
			f.read(tokens, keyOf("invoices", n))
			require.Zero(t, time.Since(asked), "reads do not wait")
		}
		require.GreaterOrEqual(t, len(f.open()), taxpayers)
		elapse(time.Second)
		require.LessOrEqual(t, f.count(submit)-at, 6, "five a second, and what the second's edge adds")
	}
	require.Equal(t, 2*taxpayers, f.count(submit))
	require.Len(t, f.open(), taxpayers, "the sessions before have ended")
	for n := range taxpayers {
		require.False(t, numbers[f.read(tokens, keyOf("invoices", n)).SessionNumber])
	}
	before := f.requests()
	tokens.Moved()
	elapse(time.Second)
	require.Equal(t, before, f.requests(), "what is as before is left as it is")
}
