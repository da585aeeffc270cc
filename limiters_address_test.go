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
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// limited is two mounts of one process, each with a storage of its own.
type limited struct {
	t      *testing.T
	disks  []logical.Storage
	mounts []*limiters
}

func newLimited(t *testing.T) *limited {
	l := &limited{t: t, disks: []logical.Storage{&logical.InmemStorage{}, &logical.InmemStorage{}}}
	l.start()
	return l
}

// start is a new process: the one before is not stopped.
func (l *limited) start() {
	registry := ratelimit.NewRegistry()
	l.mounts = nil
	for _, disk := range l.disks {
		l.mounts = append(l.mounts, newLimiters(registry, disk))
	}
}

func (l *limited) setLimits(groups client.RateLimitGroups) {
	l.t.Helper()
	require.NoError(l.t, l.mounts[0].setLimits(l.t.Context(), ratelimit.Key{API: URL, Context: "Nip:" + NIP}, groups))
}

func (l *limited) admit(mount int, nip, endpoint string, wait ratelimit.Wait) client.Permit {
	l.t.Helper()
	var taxpayer client.ContextIdentifier
	if nip != "" {
		taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: nip}
	}
	permit, err := l.mounts[mount].forContext(URL, taxpayer, wait).Admit(l.t.Context(), endpoint)
	require.NoError(l.t, err)
	return permit
}

// usage is what a mount knows of an endpoint; the zero taxpayer stands for the address.
func (l *limited) usage(mount int, taxpayer, endpoint string) ratelimit.Usage {
	key := ratelimit.Key{API: URL}
	if taxpayer != "" {
		key.Context = "Nip:" + taxpayer
	}
	for _, usage := range l.mounts[mount].usage()[key] {
		if usage.Endpoint == endpoint {
			return usage
		}
	}
	return ratelimit.Usage{}
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
		for _, permit := range []client.Permit{
			l.admit(0, NIP, client.EndpointToken, ratelimit.Wait{}),
			l.admit(1, otherNIP, client.EndpointQueryTokens, ratelimit.Wait{}),
			l.admit(1, "", client.EndpointRefresh, ratelimit.Wait{}),
		} {
			require.NoError(l.t, permit.Begin(l.t.Context()))
			permit.Done(0)
		}
	}

	t.Run("counts all contexts, mounts and logins", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 3, PerHour: -1}})
			spend(l)
			permit := l.admit(1, otherNIP, client.EndpointToken, ratelimit.Wait{AtMost: time.Second})
			var exhausted *ratelimit.ExhaustedError
			require.ErrorAs(t, permit.Begin(t.Context()), &exhausted)
			require.Equal(t, ratelimit.AllRequests, exhausted.Endpoint)
			permit.Cancel()
			require.Zero(t, l.usage(1, otherNIP, client.EndpointToken).Hour.Used, "the endpoint's slot is given back")

			began := time.Now()
			permit = l.admit(0, NIP, client.EndpointToken, ratelimit.Wait{AtMost: 2 * time.Minute})
			require.NoError(t, permit.Begin(t.Context()))
			require.Greater(t, time.Since(began), time.Minute-time.Second)
			permit.Done(0)
		})
	})
	t.Run("is not awaited until an access token has ended", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 3}})
			spend(l)
			permit := l.admit(0, NIP, client.EndpointRevokeToken, ratelimit.Wait{AtMost: 24 * time.Hour})
			began := time.Now()
			var exhausted *ratelimit.ExhaustedError
			require.ErrorAs(t, permit.Begin(t.Context()), &exhausted)
			require.Less(t, time.Since(began), 90*time.Second)
			permit.Cancel()
		})
	})
	t.Run("is none unless told", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			none := &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: -1}
			for _, global := range []*client.RateLimits{none, nil} {
				l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerMinute: 1}})
				l.setLimits(client.RateLimitGroups{Global: global})
				spend(l)
				require.Equal(t, []int{0, 0, 0}, l.limits("", ratelimit.AllRequests))
			}
		})
	})
	t.Run("is not taken before a login that the request needs", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: 1}})
			request := l.admit(0, NIP, client.EndpointToken, ratelimit.Wait{AtMost: 5 * time.Second})
			login := l.admit(0, "", client.EndpointChallenge, ratelimit.Wait{})
			require.NoError(t, login.Begin(t.Context()))
			login.Done(0)
			require.NoError(t, request.Begin(t.Context()))
			request.Done(0)
		})
	})
	t.Run("survives a crash in each mount", func(t *testing.T) {
		in(t, func(t *testing.T, l *limited) {
			l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 4}})
			spend(l)
			l.start()
			for i, mount := range l.mounts {
				require.NoError(t, mount.openStored(t.Context(), URL))
				require.Equal(t, 4, l.usage(i, "", ratelimit.AllRequests).Hour.Limit)
			}
			require.GreaterOrEqual(t, l.usage(0, "", ratelimit.AllRequests).Hour.Used, 3)
		})
	})
	t.Run("is counted by a mount that sends nothing", func(t *testing.T) {
		InClusterOf(t, 2, simulator.Options{}, func(t *testing.T, s *Cluster) {
			s.Elapse(2 * time.Hour)
			s.restart()
			var idle *Mount
			s.OnMount(1, func(m *Mount) { idle = m })
			s.OnMount(0, func(m *Mount) {
				l := &limited{t: t, mounts: []*limiters{m.Backend.limiters, m.Backend.limiters}}
				l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 9}})
				_, err := idle.Request(logical.RollbackOperation, "", nil)
				require.NoError(t, err)
				spend(l)
			})
			alone := &limited{t: t, mounts: []*limiters{newLimiters(ratelimit.NewRegistry(), s.Disks[1])}}
			require.NoError(t, alone.mounts[0].openStored(t.Context(), URL))
			require.Equal(t, []int{0, 0, 9}, alone.limits("", ratelimit.AllRequests))
			require.GreaterOrEqual(t, alone.usage(0, "", ratelimit.AllRequests).Hour.Used, 3)
		})
	})
	t.Run("is kept to while two mounts issue and restart", func(t *testing.T) {
		global := simulator.Limits{Global: simulator.Windows{PerSecond: 20, PerMinute: 50, PerHour: 120}}
		InClusterOf(t, 2, simulator.Options{Limits: global}, func(t *testing.T, s *Cluster) {
			for i := range 60 {
				_, _ = s.Vaults[i%2].Issue(t.Context(), "invoices", time.Hour)
				s.Elapse(2 * time.Second)
				if i == 30 {
					s.restart()
				}
			}
			require.GreaterOrEqual(t, len(s.AliveTokens()), 40)
			s.Elapse(6 * time.Hour)
			require.Empty(t, s.AliveTokens())
			require.NoError(t, s.limitExceeded())
		})
	})
	t.Run("tells when a revocation can go", func(t *testing.T) {
		InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
			s.OnMount(0, func(m *Mount) {
				m.Must(m.Read("tokens", nil))
				limits := m.Backend.limiters
				require.NoError(t, limits.setLimits(t.Context(), ratelimit.Key{API: URL, Context: "Nip:" + NIP},
					client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 1, PerHour: -1}}))
				require.Greater(t, time.Until(m.Backend.lastRevocation(1)), 50*time.Second)
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
					l.admit(0, NIP, endpoint, ratelimit.Wait{}).Cancel()
				}
				for _, endpoint := range loginEndpoints() {
					l.admit(0, "", endpoint, ratelimit.Wait{}).Cancel()
				}
				l.setLimits(test.told)
				require.Equal(t, test.other, l.limits(NIP, client.EndpointRevokeToken))
				require.Equal(t, test.other, l.limits(NIP, client.EndpointQuerySessions))
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
	InCluster(t, simulator.Options{}, func(t *testing.T, s *Cluster) {
		s.OnMount(0, func(m *Mount) {
			learn := func(answer string) *limited {
				api, err := client.New(client.Config{URL: URL, Transport: answers(answer)})
				require.NoError(t, err)
				m.Backend.learnLimits(context.Background(), api, client.ContextIdentifier{Type: client.ContextNIP, Value: NIP}, "access")
				return &limited{t: t, mounts: []*limiters{m.Backend.limiters}}
			}
			l := learn(`{"other":{"perSecond":-1,"perMinute":20,"perHour":-1},"anonymous":{"perSecond":50,"perMinute":-1,"perHour":-1},
				"global":{"perSecond":-1,"perMinute":-1,"perHour":900}}`)
			require.Equal(t, []int{0, 20, 0}, l.limits(NIP, client.EndpointGenerateToken))
			require.Equal(t, []int{50, 0, 0}, l.limits("", client.EndpointChallenge))
			require.Equal(t, []int{0, 0, 900}, l.limits("", ratelimit.AllRequests))
			status := m.StatusDetails()["rate_limits"]
			require.NotEmpty(t, status)

			l = learn(`what is no JSON`)
			require.Equal(t, []int{0, 20, 0}, l.limits(NIP, client.EndpointGenerateToken), "what is known goes on")
			require.Equal(t, []int{0, 0, 900}, l.limits("", ratelimit.AllRequests))
		})
	})
}

// A request whose bearer token cannot be had, or whose turn does not come, costs nothing.
func TestPassCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t)
		l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerHour: 1}})
		for range 3 {
			permit := l.admit(0, NIP, client.EndpointToken, ratelimit.Wait{})
			require.NoError(t, permit.Begin(t.Context()))
			permit.Cancel()
		}
		permit := l.admit(0, NIP, client.EndpointToken, ratelimit.Wait{})
		require.NoError(t, permit.Begin(t.Context()))
		permit.GiveUp(time.Now())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		permit = l.admit(0, NIP, client.EndpointToken, ratelimit.Wait{AtMost: 2 * time.Hour})
		require.ErrorIs(t, permit.Begin(ended), context.Canceled)
		permit.Cancel()
	})
}
