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
	"vault-plugin-secrets-ksef/internal/limiters"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/status"

	"github.com/hashicorp/go-hclog"
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
	require.NoError(l.t, l.mounts[0].SetLimits(l.t.Context(), testAPI, client.ContextIdentifier{Type: client.ContextNIP, Value: ownNIP}, groups))
}

func (l *limited) admit(mount int, nip, endpoint string, wait ratelimit.Wait) client.Permit {
	l.t.Helper()
	var taxpayer client.ContextIdentifier
	if nip != "" {
		taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: nip}
	}
	permit, err := l.mounts[mount].For(testAPI, taxpayer, wait).Admit(l.t.Context(), endpoint)
	require.NoError(l.t, err)
	return permit
}

// usage is what a mount knows of an endpoint; the zero taxpayer stands for the address.
func (l *limited) usage(mount int, taxpayer, endpoint string) ratelimit.Usage {
	key := ratelimit.Key{API: testAPI}
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

const (
	testAPI  = "https://ksef.test/v2"
	ownNIP   = "5265877635"
	otherNIP = "1111111111"
)

func TestGlobalLimit(t *testing.T) {
	// spend sends three requests: of two contexts, two mounts and a login.
	spend := func(l *limited) {
		for _, permit := range []client.Permit{
			l.admit(0, ownNIP, client.EndpointToken, ratelimit.Wait{}),
			l.admit(1, otherNIP, client.EndpointQueryTokens, ratelimit.Wait{}),
			l.admit(1, "", client.EndpointRefresh, ratelimit.Wait{}),
		} {
			require.NoError(l.t, permit.Begin(l.t.Context()))
			permit.Done(0)
		}
	}

	t.Run("is counted by a mount that sends nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			registry, disk := ratelimit.NewRegistry(), &logical.InmemStorage{}
			set := func(registry *ratelimit.Registry, storage logical.Storage) *limiters.Set {
				return limiters.New(registry, storage, func(*logical.StorageEntry, error) {})
			}
			sending, idle := set(registry, &logical.InmemStorage{}), set(registry, disk)
			l := &limited{t: t, mounts: []*limiters.Set{sending, sending}}
			require.NoError(t, idle.OpenOwn(t.Context(), testAPI, client.ContextIdentifier{}))
			l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 9}})
			_, err := idle.DropIdle(t.Context())
			require.NoError(t, err)
			spend(l)
			alone := &limited{t: t, mounts: []*limiters.Set{set(ratelimit.NewRegistry(), disk)}}
			require.NoError(t, alone.mounts[0].OpenStored(t.Context(), testAPI))
			require.Equal(t, []int{0, 0, 9}, alone.limits("", ratelimit.AllRequests))
			require.GreaterOrEqual(t, alone.usage(0, "", ratelimit.AllRequests).Hour.Used, 3)
		})
	})
	t.Run("says when a revocation can go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newLoaded(t)
			taxpayer := client.ContextIdentifier{Type: client.ContextNIP, Value: ownNIP}
			api, err := client.New(client.Config{URL: testAPI})
			require.NoError(t, err)
			b.connection.replace(&connection{client: api, config: &config{URL: testAPI, Context: taxpayer}})
			l := &limited{t: t, mounts: []*limiters.Set{b.limiters}}
			l.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 1, PerHour: -1}})
			permit := l.admit(0, ownNIP, client.EndpointQueryTokens, ratelimit.Wait{})
			require.NoError(t, permit.Begin(t.Context()))
			permit.Done(0)
			require.Greater(t, time.Until(b.lastRevocation(1)), 50*time.Second)
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
	synctest.Test(t, func(t *testing.T) {
		b := newLoaded(t)
		learn := func(answer string) *limited {
			api, err := client.New(client.Config{URL: testAPI, Transport: answers(answer)})
			require.NoError(t, err)
			b.learnLimits(context.Background(), api, client.ContextIdentifier{Type: client.ContextNIP, Value: ownNIP}, "access")
			return &limited{t: t, mounts: []*limiters.Set{b.limiters}}
		}
		l := learn(`{"other":{"perSecond":-1,"perMinute":20,"perHour":-1},"anonymous":{"perSecond":50,"perMinute":-1,"perHour":-1},
			"global":{"perSecond":-1,"perMinute":-1,"perHour":900}}`)
		require.Equal(t, []int{0, 20, 0}, l.limits(ownNIP, client.EndpointGenerateToken))
		require.Equal(t, []int{50, 0, 0}, l.limits("", client.EndpointChallenge))
		require.Equal(t, []int{0, 0, 900}, l.limits("", ratelimit.AllRequests))
		report := status.New("v1.2.3")
		report.AddLimits(b.limiters.Usage())
		require.NotEmpty(t, report.Details["rate_limits"])

		l = learn(`what is no JSON`)
		require.Equal(t, []int{0, 20, 0}, l.limits(ownNIP, client.EndpointGenerateToken), "what is known goes on")
		require.Equal(t, []int{0, 0, 900}, l.limits("", ratelimit.AllRequests))
	})
}

// newLoaded is a mount without a configuration.
func newLoaded(t *testing.T) *backend {
	t.Helper()
	loaded, err := NewFactory("v1.2.3")(t.Context(), &logical.BackendConfig{
		StorageView: &logical.InmemStorage{}, System: &logical.StaticSystemView{}, Logger: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { loaded.Cleanup(context.Background()) })
	return loaded.(*backend)
}
