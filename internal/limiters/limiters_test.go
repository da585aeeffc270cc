// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package limiters

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const testURL = "https://ksef.test/v2"

var (
	taxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}
	other    = client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}
	login    = client.ContextIdentifier{}
)

// mounts are two mounts of one process, each with a storage of its own.
type mounts struct {
	t     *testing.T
	disks []logical.Storage
	sets  []*Set
}

func newMounts(t *testing.T) *mounts {
	m := &mounts{t: t, disks: []logical.Storage{&logical.InmemStorage{}, &logical.InmemStorage{}}}
	m.start()
	return m
}

// start is a new process: the one before is not stopped.
func (m *mounts) start() {
	registry := ratelimit.NewRegistry()
	m.sets = nil
	for _, disk := range m.disks {
		m.sets = append(m.sets, New(registry, disk, func(*logical.StorageEntry, error) {}))
	}
}

func (m *mounts) setLimits(groups client.RateLimitGroups) {
	m.t.Helper()
	require.NoError(m.t, m.sets[0].SetLimits(m.t.Context(), testURL, taxpayer, groups))
}

func (m *mounts) admit(mount int, taxpayer client.ContextIdentifier, endpoint string, wait ratelimit.Wait) client.Permit {
	m.t.Helper()
	permit, err := m.sets[mount].For(testURL, taxpayer, wait).Admit(m.t.Context(), endpoint)
	require.NoError(m.t, err)
	return permit
}

// usage is what a mount knows of an endpoint.
func (m *mounts) usage(mount int, taxpayer client.ContextIdentifier, endpoint string) ratelimit.Usage {
	for _, usage := range m.sets[mount].Usage()[keyOf(testURL, taxpayer)] {
		if usage.Endpoint == endpoint {
			return usage
		}
	}
	return ratelimit.Usage{}
}

func (m *mounts) limits(taxpayer client.ContextIdentifier, endpoint string) []int {
	usage := m.usage(0, taxpayer, endpoint)
	return []int{usage.Second.Limit, usage.Minute.Limit, usage.Hour.Limit}
}

// spend sends three requests: of two taxpayers, two mounts and a login.
func (m *mounts) spend() {
	for _, permit := range []client.Permit{
		m.admit(0, taxpayer, client.EndpointToken, ratelimit.Wait{}),
		m.admit(1, other, client.EndpointQueryTokens, ratelimit.Wait{}),
		m.admit(1, login, client.EndpointRefresh, ratelimit.Wait{}),
	} {
		require.NoError(m.t, permit.Begin(m.t.Context()))
		permit.Done(0)
	}
}

func TestGlobalLimit(t *testing.T) {
	in := func(t *testing.T, test func(t *testing.T, m *mounts)) {
		synctest.Test(t, func(t *testing.T) { test(t, newMounts(t)) })
	}
	t.Run("counts all contexts, mounts and logins", func(t *testing.T) {
		in(t, func(t *testing.T, m *mounts) {
			m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: 3, PerHour: -1}})
			m.spend()
			permit := m.admit(1, other, client.EndpointToken, ratelimit.Wait{AtMost: time.Second})
			var exhausted *ratelimit.ExhaustedError
			require.ErrorAs(t, permit.Begin(t.Context()), &exhausted)
			require.Equal(t, ratelimit.AllRequests, exhausted.Endpoint)
			permit.Cancel()
			require.Zero(t, m.usage(1, other, client.EndpointToken).Hour.Used, "the permit of the endpoint is returned")

			began := time.Now()
			permit = m.admit(0, taxpayer, client.EndpointToken, ratelimit.Wait{AtMost: 2 * time.Minute})
			require.NoError(t, permit.Begin(t.Context()))
			require.Greater(t, time.Since(began), time.Minute-time.Second)
			permit.Done(0)
		})
	})
	t.Run("is not awaited until an access token has ended", func(t *testing.T) {
		in(t, func(t *testing.T, m *mounts) {
			m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 3}})
			m.spend()
			permit := m.admit(0, taxpayer, client.EndpointRevokeToken, ratelimit.Wait{AtMost: 24 * time.Hour})
			began := time.Now()
			var exhausted *ratelimit.ExhaustedError
			require.ErrorAs(t, permit.Begin(t.Context()), &exhausted)
			require.Less(t, time.Since(began), 90*time.Second)
			permit.Cancel()
		})
	})
	t.Run("is none unless reported", func(t *testing.T) {
		in(t, func(t *testing.T, m *mounts) {
			none := &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: -1}
			for _, global := range []*client.RateLimits{none, nil} {
				m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerMinute: 1}})
				m.setLimits(client.RateLimitGroups{Global: global})
				m.spend()
				require.Equal(t, []int{0, 0, 0}, m.limits(login, ratelimit.AllRequests))
			}
		})
	})
	t.Run("is not taken before a login that the request needs", func(t *testing.T) {
		in(t, func(t *testing.T, m *mounts) {
			m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: 1}})
			request := m.admit(0, taxpayer, client.EndpointToken, ratelimit.Wait{AtMost: 5 * time.Second})
			login := m.admit(0, login, client.EndpointChallenge, ratelimit.Wait{})
			require.NoError(t, login.Begin(t.Context()))
			login.Done(0)
			require.NoError(t, request.Begin(t.Context()))
			request.Done(0)
		})
	})
	t.Run("survives a crash in each mount", func(t *testing.T) {
		in(t, func(t *testing.T, m *mounts) {
			m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 4}})
			m.spend()
			m.start()
			for i, mount := range m.sets {
				require.NoError(t, mount.OpenStored(t.Context(), testURL))
				require.Equal(t, 4, m.usage(i, login, ratelimit.AllRequests).Hour.Limit)
			}
			require.GreaterOrEqual(t, m.usage(0, login, ratelimit.AllRequests).Hour.Used, 3)
		})
	})
	t.Run("is counted by a mount that sends nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			registry, disk := ratelimit.NewRegistry(), &logical.InmemStorage{}
			set := func(registry *ratelimit.Registry, storage logical.Storage) *Set {
				return New(registry, storage, func(*logical.StorageEntry, error) {})
			}
			sending, idle := set(registry, &logical.InmemStorage{}), set(registry, disk)
			m := &mounts{t: t, sets: []*Set{sending, sending}}
			require.NoError(t, idle.OpenOwn(t.Context(), testURL, login))
			m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerSecond: -1, PerMinute: -1, PerHour: 9}})
			_, err := idle.DropIdle(t.Context())
			require.NoError(t, err)
			m.spend()
			alone := &mounts{t: t, sets: []*Set{set(ratelimit.NewRegistry(), disk)}}
			require.NoError(t, alone.sets[0].OpenStored(t.Context(), testURL))
			require.Equal(t, []int{0, 0, 9}, alone.limits(login, ratelimit.AllRequests))
			require.GreaterOrEqual(t, alone.usage(0, login, ratelimit.AllRequests).Hour.Used, 3)
		})
	})
}

func TestSetLimits(t *testing.T) {
	const none = -1
	standard := []int{10, 30, 120}
	for name, test := range map[string]struct {
		reported         client.RateLimitGroups
		other, anonymous []int
	}{
		"nothing":               {client.RateLimitGroups{}, standard, []int{60, 0, 0}},
		"before 2.8":            {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: 1, PerMinute: 2, PerHour: 3}}, []int{1, 2, 3}, []int{60, 0, 0}},
		"each window":           {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: none, PerMinute: 2, PerHour: none}}, []int{0, 2, 0}, []int{60, 0, 0}},
		"no limit":              {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: none, PerMinute: none, PerHour: none}}, []int{0, 0, 0}, []int{60, 0, 0}},
		"a window not reported": {client.RateLimitGroups{Other: &client.RateLimits{PerSecond: 5}}, []int{5, 30, 120}, []int{60, 0, 0}},
		"anonymous": {
			client.RateLimitGroups{Anonymous: &client.RateLimits{PerSecond: 6, PerMinute: 7, PerHour: none}}, standard, []int{6, 7, 0},
		},
		"anonymous as it is": {
			client.RateLimitGroups{Anonymous: &client.RateLimits{PerSecond: 60, PerMinute: none, PerHour: none}}, standard, []int{60, 0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMounts(t)
				for _, endpoint := range []string{client.EndpointRevokeToken, client.EndpointQuerySessions} {
					m.admit(0, taxpayer, endpoint, ratelimit.Wait{}).Cancel()
				}
				for _, endpoint := range loginEndpoints() {
					m.admit(0, login, endpoint, ratelimit.Wait{}).Cancel()
				}
				m.setLimits(test.reported)
				require.Equal(t, test.other, m.limits(taxpayer, client.EndpointRevokeToken))
				require.Equal(t, test.other, m.limits(taxpayer, client.EndpointQuerySessions))
				for _, endpoint := range loginEndpoints() {
					require.Equal(t, test.anonymous, m.limits(login, endpoint), endpoint)
				}
			})
		})
	}
}

func TestSetLimits_crash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMounts(t)
		tight := &client.RateLimits{PerSecond: 4, PerMinute: 12, PerHour: 40}
		for mount := range m.sets {
			m.admit(mount, taxpayer, client.EndpointRateLimits, ratelimit.Wait{}).Cancel()
		}
		m.setLimits(client.RateLimitGroups{Other: tight, Anonymous: tight})
		for first := range m.disks {
			m.start()
			m.admit(first, taxpayer, client.EndpointToken, ratelimit.Wait{}).Cancel()
			usage := m.usage(first, taxpayer, client.EndpointToken)
			require.Equal(t, []int{4, 12, 40}, []int{usage.Second.Limit, usage.Minute.Limit, usage.Hour.Limit})
		}
	})
}

// A request whose bearer token cannot be had, or which is not admitted, costs nothing.
func TestPermit_cancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMounts(t)
		m.setLimits(client.RateLimitGroups{Global: &client.RateLimits{PerHour: 1}})
		for range 3 {
			permit := m.admit(0, taxpayer, client.EndpointToken, ratelimit.Wait{})
			require.NoError(t, permit.Begin(t.Context()))
			permit.Cancel()
		}
		permit := m.admit(0, taxpayer, client.EndpointToken, ratelimit.Wait{})
		require.NoError(t, permit.Begin(t.Context()))
		permit.GiveUp(time.Now())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		permit = m.admit(0, taxpayer, client.EndpointToken, ratelimit.Wait{AtMost: 2 * time.Hour})
		require.ErrorIs(t, permit.Begin(ended), context.Canceled)
		permit.Cancel()
	})
}

// blockedDisk keeps its first read until the read's context ends.
type blockedDisk struct {
	logical.Storage
	blocked atomic.Bool
}

func (d *blockedDisk) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if d.blocked.CompareAndSwap(true, false) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return d.Storage.Get(ctx, key)
}

func TestOpen(t *testing.T) {
	t.Run("does not fail for another caller that has gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &blockedDisk{Storage: &logical.InmemStorage{}}
			disk.blocked.Store(true)
			set := New(ratelimit.NewRegistry(), disk, func(*logical.StorageEntry, error) {})
			open := func(ctx context.Context) <-chan error {
				done := make(chan error, 1)
				go func() {
					_, err := set.limiter(ctx, keyOf(testURL, taxpayer))
					done <- err
				}()
				synctest.Wait()
				return done
			}
			ctx, cancel := context.WithCancel(t.Context())
			first := open(ctx)
			second := open(t.Context())
			cancel()
			require.ErrorIs(t, <-first, context.Canceled)
			require.NoError(t, <-second)
			require.NoError(t, set.Close(t.Context()))
		})
	})
}
