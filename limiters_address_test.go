// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// limited is two mounts.
type limited struct {
	t      *testing.T
	mounts []*limiters.Set
}

func (l *limited) setLimits(groups client.RateLimitGroups) {
	l.t.Helper()
	require.NoError(l.t, l.mounts[0].SetLimits(l.t.Context(), URL, client.ContextIdentifier{Type: client.ContextNIP, Value: NIP}, groups))
}

func (l *limited) admit(mount int, nip, endpoint string, wait ratelimit.Wait) client.Permit {
	l.t.Helper()
	var taxpayer client.ContextIdentifier
	if nip != "" {
		taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: nip}
	}
	permit, err := l.mounts[mount].For(URL, taxpayer, wait).Admit(l.t.Context(), endpoint)
	require.NoError(l.t, err)
	return permit
}

// usage is what a mount knows of an endpoint; the zero taxpayer stands for the address.
func (l *limited) usage(mount int, taxpayer, endpoint string) ratelimit.Usage {
	key := ratelimit.Key{API: URL}
	if taxpayer != "" {
		key.Context = "Nip:" + taxpayer
	}
	for _, usage := range l.mounts[mount].Usage()[key] {
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

	t.Run("is counted by a mount that sends nothing", func(t *testing.T) {
		InClusterOf(t, 2, simulator.Options{}, func(t *testing.T, s *Cluster) {
			s.Elapse(2 * time.Hour)
			s.restart()
			var idle *Mount
			s.OnMount(1, func(m *Mount) { idle = m })
			s.OnMount(0, func(m *Mount) {
				l := &limited{t: t, mounts: []*limiters.Set{m.Backend.limiters, m.Backend.limiters}}
				l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 9}})
				_, err := idle.Request(logical.RollbackOperation, "", nil)
				require.NoError(t, err)
				spend(l)
			})
			alone := &limited{t: t, mounts: []*limiters.Set{limiters.New(ratelimit.NewRegistry(), s.Disks[1], func(*logical.StorageEntry, error) {})}}
			require.NoError(t, alone.mounts[0].OpenStored(t.Context(), URL))
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
				require.NoError(t, limits.SetLimits(t.Context(), URL, client.ContextIdentifier{Type: client.ContextNIP, Value: NIP},
					client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 1, PerHour: -1}}))
				require.Greater(t, time.Until(m.Backend.lastRevocation(1)), 50*time.Second)
			})
		})
	})
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
				return &limited{t: t, mounts: []*limiters.Set{m.Backend.limiters}}
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
