// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/budget"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// limited is two mounts of one process, each with a storage of its own.
type limited struct {
	t      *testing.T
	disks  []logical.Storage
	mounts []*budgets
}

func newLimited(t *testing.T) *limited {
	l := &limited{t: t, disks: []logical.Storage{&logical.InmemStorage{}, &logical.InmemStorage{}}}
	l.start()
	return l
}

// start is a new process: the one before is not stopped.
func (l *limited) start() {
	registry := budget.NewRegistry()
	l.mounts = nil
	for _, disk := range l.disks {
		l.mounts = append(l.mounts, newBudgets(registry, disk))
	}
}

func (l *limited) tell(groups client.RateLimitGroups) {
	l.t.Helper()
	require.NoError(l.t, l.mounts[0].setLimits(l.t.Context(), budget.Key{API: testURL, Context: "Nip:" + testNIP}, groups))
}

func (l *limited) admit(mount int, taxpayer, endpoint string, wait budget.Wait) client.Pass {
	l.t.Helper()
	var in client.Context
	if taxpayer != "" {
		in = client.Context{Type: client.ContextNIP, Value: taxpayer}
	}
	pass, err := l.mounts[mount].gate(testURL, in, wait).Admit(l.t.Context(), endpoint)
	require.NoError(l.t, err)
	return pass
}

// usage is what a mount knows of an endpoint; the zero taxpayer stands for the address.
func (l *limited) usage(mount int, taxpayer, endpoint string) budget.Usage {
	key := budget.Key{API: testURL}
	if taxpayer != "" {
		key.Context = "Nip:" + taxpayer
	}
	for _, usage := range l.mounts[mount].usage()[key] {
		if usage.Endpoint == endpoint {
			return usage
		}
	}
	return budget.Usage{}
}

func (l *limited) limits(taxpayer, endpoint string) []int {
	usage := l.usage(0, taxpayer, endpoint)
	return []int{usage.Second.Limit, usage.Minute.Limit, usage.Hour.Limit}
}

const otherNIP = "1111111111"

func TestGlobalLimit(t *testing.T) {
	in := func(t *testing.T, test func(t *testing.T, l *limited)) {
		synctest.Test(t, func(t *testing.T) { test(t, newLimited(t)) })
	}
	// spend sends three requests: of two contexts, two mounts and a login.
	spend := func(l *limited) {
		for _, pass := range []client.Pass{
			l.admit(0, testNIP, client.EndpointToken, budget.Wait{}),
			l.admit(1, otherNIP, client.EndpointQueryTokens, budget.Wait{}),
			l.admit(1, "", client.EndpointRefresh, budget.Wait{}),
		} {
			require.NoError(l.t, pass.Begin(l.t.Context()))
			pass.Done(0)
		}
	}

	t.Run("counts all contexts, mounts and logins", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 3, PerHour: -1}})
			spend(l)
			pass := l.admit(1, otherNIP, client.EndpointToken, budget.Wait{AtMost: time.Second})
			var exhausted *budget.ExhaustedError
			require.ErrorAs(t, pass.Begin(t.Context()), &exhausted)
			require.Equal(t, budget.AllRequests, exhausted.Endpoint)
			pass.Cancel()
			require.Zero(t, l.usage(1, otherNIP, client.EndpointToken).Hour.Used, "the endpoint's slot is given back")

			began := time.Now()
			pass = l.admit(0, testNIP, client.EndpointToken, budget.Wait{AtMost: 2 * time.Minute})
			require.NoError(t, pass.Begin(t.Context()))
			require.Greater(t, time.Since(began), time.Minute-time.Second)
			pass.Done(0)
		})
	})
	t.Run("is not awaited until an access token has ended", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 3}})
			spend(l)
			pass := l.admit(0, testNIP, client.EndpointRevokeToken, budget.Wait{AtMost: 24 * time.Hour})
			began := time.Now()
			var exhausted *budget.ExhaustedError
			require.ErrorAs(t, pass.Begin(t.Context()), &exhausted)
			require.Less(t, time.Since(began), 90*time.Second)
			pass.Cancel()
		})
	})
	t.Run("is none unless told", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			none := &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: -1}
			for _, global := range []*client.RateLimits{none, nil} {
				l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerMinute: 1}})
				l.tell(client.RateLimitGroups{Global: global})
				spend(l)
				require.Equal(t, []int{0, 0, 0}, l.limits("", budget.AllRequests))
			}
		})
	})
	t.Run("is not taken before a login that the request needs", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: 1}})
			request := l.admit(0, testNIP, client.EndpointToken, budget.Wait{AtMost: 5 * time.Second})
			login := l.admit(0, "", client.EndpointChallenge, budget.Wait{})
			require.NoError(t, login.Begin(t.Context()))
			login.Done(0)
			require.NoError(t, request.Begin(t.Context()))
			request.Done(0)
		})
	})
	t.Run("survives a crash in each mount", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 4}})
			spend(l)
			l.start()
			for i, mount := range l.mounts {
				require.NoError(t, mount.openStored(t.Context(), testURL))
				require.Equal(t, 4, l.usage(i, "", budget.AllRequests).Hour.Limit)
			}
			require.GreaterOrEqual(t, l.usage(0, "", budget.AllRequests).Hour.Used, 3)
		})
	})
	t.Run("is counted by a mount that sends nothing", func(t *testing.T) {
		inSceneOf(t, 2, simulator.Options{}, func(t *testing.T, s *scene) {
			s.elapse(2 * time.Hour)
			s.restart()
			var idle *mount
			s.onMount(1, func(m *mount) { idle = m })
			s.onMount(0, func(m *mount) {
				l := &limited{t: t, mounts: []*budgets{m.backend.budgets, m.backend.budgets}}
				l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 9}})
				_, err := idle.request(logical.RollbackOperation, "", nil)
				require.NoError(t, err)
				spend(l)
			})
			alone := &limited{t: t, mounts: []*budgets{newBudgets(budget.NewRegistry(), s.disks[1])}}
			require.NoError(t, alone.mounts[0].openStored(t.Context(), testURL))
			require.Equal(t, []int{0, 0, 9}, alone.limits("", budget.AllRequests))
			require.GreaterOrEqual(t, alone.usage(0, "", budget.AllRequests).Hour.Used, 3)
		})
	})
	t.Run("is kept to while two mounts issue and restart", func(t *testing.T) {
		global := simulator.Limits{Global: simulator.Windows{PerSecond: 20, PerMinute: 50, PerHour: 120}}
		inSceneOf(t, 2, simulator.Options{Limits: global}, func(t *testing.T, s *scene) {
			for i := range 60 {
				_, _ = s.vaults[i%2].issue(t.Context(), "invoices", time.Hour)
				s.elapse(2 * time.Second)
				if i == 30 {
					s.restart()
				}
			}
			require.GreaterOrEqual(t, len(s.living()), 40)
			s.elapse(6 * time.Hour)
			require.Empty(t, s.living())
			require.NoError(t, s.limitExceeded())
		})
	})
	t.Run("tells when a revocation can go", func(t *testing.T) {
		inScene(t, simulator.Options{}, func(t *testing.T, s *scene) {
			s.onMount(0, func(m *mount) {
				m.must(m.read("tokens", nil))
				limits := m.backend.budgets
				require.NoError(t, limits.setLimits(t.Context(), budget.Key{API: testURL, Context: "Nip:" + testNIP},
					client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 1, PerHour: -1}}))
				require.Greater(t, time.Until(m.backend.lastRevocation(1)), 50*time.Second)
			})
		})
	})
}

func TestLimitsAsTold(t *testing.T) {
	const none = -1
	standard := []int{10, 30, 120}
	for name, test := range map[string]struct {
		told             client.RateLimitGroups
		other, anonymous []int
	}{
		"nothing":         {client.RateLimitGroups{}, standard, []int{60, 0, 0}},
		"before 2.8":      {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: 1, PerMinute: 2, PerHour: 3}}, []int{1, 2, 3}, []int{60, 0, 0}},
		"each window":     {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: none, PerMinute: 2, PerHour: none}}, []int{0, 2, 0}, []int{60, 0, 0}},
		"no limit":        {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: none, PerMinute: none, PerHour: none}}, []int{0, 0, 0}, []int{60, 0, 0}},
		"a window untold": {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: 5}}, []int{5, 30, 120}, []int{60, 0, 0}},
		"anonymous": {
			client.RateLimitGroups{Anonymous: &client.RateLimits{PerSecond: 6, PerMinute: 7, PerHour: none}}, standard, []int{6, 7, 0},
		},
		"anonymous as it is": {
			client.RateLimitGroups{Anonymous: &client.RateLimits{PerSecond: 60, PerMinute: none, PerHour: none}}, standard, []int{60, 0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimited(t)
				for _, endpoint := range []string{client.EndpointRevokeToken, client.EndpointQuerySessions} {
					l.admit(0, testNIP, endpoint, budget.Wait{}).Cancel()
				}
				for _, endpoint := range loginEndpoints() {
					l.admit(0, "", endpoint, budget.Wait{}).Cancel()
				}
				l.tell(test.told)
				require.Equal(t, test.other, l.limits(testNIP, client.EndpointRevokeToken))
				require.Equal(t, test.other, l.limits(testNIP, client.EndpointQuerySessions))
				for _, endpoint := range loginEndpoints() {
					require.Equal(t, test.anonymous, l.limits("", endpoint), endpoint)
				}
			})
		})
	}
}

// answers is a KSeF that gives one answer to everything.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	_, err := io.WriteString(recorder, string(a))
	return recorder.Result(), err
}

func TestLearnLimits(t *testing.T) {
	inScene(t, simulator.Options{}, func(t *testing.T, s *scene) {
		s.onMount(0, func(m *mount) {
			learn := func(answer string) *limited {
				api, err := client.New(client.Config{URL: testURL, Transport: answers(answer)})
				require.NoError(t, err)
				m.backend.learnLimits(context.Background(), api, client.Context{Type: client.ContextNIP, Value: testNIP}, "access")
				return &limited{t: t, mounts: []*budgets{m.backend.budgets}}
			}
			l := learn(`{"other":{"perSecond":-1,"perMinute":20,"perHour":-1},"anonymous":{"perSecond":50,"perMinute":-1,"perHour":-1},
				"global":{"perSecond":-1,"perMinute":-1,"perHour":900}}`)
			require.Equal(t, []int{0, 20, 0}, l.limits(testNIP, client.EndpointGenerateToken))
			require.Equal(t, []int{50, 0, 0}, l.limits("", client.EndpointChallenge))
			require.Equal(t, []int{0, 0, 900}, l.limits("", budget.AllRequests))
			status := m.statusDetails()["rate_limits"]
			require.NotEmpty(t, status)

			l = learn(`what is no JSON`)
			require.Equal(t, []int{0, 20, 0}, l.limits(testNIP, client.EndpointGenerateToken), "what is known goes on")
			require.Equal(t, []int{0, 0, 900}, l.limits("", budget.AllRequests))
		})
	})
}

// A request whose bearer token cannot be had, or whose turn does not come, costs nothing.
func TestPassCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t)
		l.tell(client.RateLimitGroups{Global: &client.RateLimits{PerHour: 1}})
		for range 3 {
			pass := l.admit(0, testNIP, client.EndpointToken, budget.Wait{})
			require.NoError(t, pass.Begin(t.Context()))
			pass.Cancel()
		}
		pass := l.admit(0, testNIP, client.EndpointToken, budget.Wait{})
		require.NoError(t, pass.Begin(t.Context()))
		pass.GiveUp(time.Now())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		pass = l.admit(0, testNIP, client.EndpointToken, budget.Wait{AtMost: 2 * time.Hour})
		require.ErrorIs(t, pass.Begin(ended), context.Canceled)
		pass.Cancel()
	})
}
