// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// network leads to a server in memory, over connections that can fall silent: neither side is
// notified, and what it writes is lost.
type network struct {
	accepting chan net.Conn
	closed    chan struct{}
	close     sync.Once

	mu     sync.Mutex
	opened []*atomic.Bool // whether a connection is silent
}

func newNetwork() *network {
	return &network{accepting: make(chan net.Conn), closed: make(chan struct{})}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.accepting:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.close.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (n *network) dial(context.Context, string, string) (net.Conn, error) {
	client, near := net.Pipe()
	far, server := net.Pipe()
	silent := &atomic.Bool{}
	n.mu.Lock()
	n.opened = append(n.opened, silent)
	n.mu.Unlock()
	go forward(near, far, silent)
	go forward(far, near, silent)
	n.accepting <- server
	return client, nil
}

func forward(from, to net.Conn, silent *atomic.Bool) {
	buffer := make([]byte, 32<<10)
	for {
		read, err := from.Read(buffer)
		if !silent.Load() {
			_, _ = to.Write(buffer[:read])
		}
		if err != nil {
			_, _ = from.Close(), to.Close()
			return
		}
	}
}

func (n *network) fallSilent() (connections int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, silent := range n.opened {
		silent.Store(true)
	}
	return len(n.opened)
}

// overNetwork calls a KSeF that answers every request, over HTTP/2 or HTTP/1.1.
func overNetwork(t *testing.T, protocol int, test func(t *testing.T, n *network, api *Client)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, protocol, r.ProtoMajor)
			<-time.After(50 * time.Millisecond) // so that requests side by side need connections of their own
			_, _ = io.WriteString(w, `{"challenge":"c"}`)
		}))
		require.NoError(t, server.Listener.Close())
		server.Listener, server.EnableHTTP2 = n, protocol == 2
		server.StartTLS()
		defer server.Close()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		transport := newTransport(roots)
		transport.DialContext, transport.Proxy = n.dial, nil
		api, err := New(Config{URL: server.URL + "/v2", Transport: transport})
		require.NoError(t, err)
		defer api.Close()
		test(t, n, api)
	})
}

func TestSilentConnection(t *testing.T) {
	for name, protocol := range map[string]int{"http1": 1, "http2": 2} {
		t.Run(name, func(t *testing.T) {
			overNetwork(t, protocol, func(t *testing.T, n *network, api *Client) {
				requireAnswered(t, api, 4)
				n.fallSilent()
				began := time.Now()
				_, err := api.Challenge(t.Context())
				require.True(t, MayHaveActed(err, EndpointChallenge), "%v", err)
				require.LessOrEqual(t, time.Since(began), 30*time.Second)
				synctest.Wait()
				requireAnswered(t, api, 4)
			})
		})
		t.Run(name+"_with_a_short_request_timeout", func(t *testing.T) {
			overNetwork(t, protocol, func(t *testing.T, n *network, api *Client) {
				api.config.RequestTimeout = 2 * time.Second
				requireAnswered(t, api, 4)
				n.fallSilent()
				_, err := api.Challenge(t.Context())
				require.True(t, MayHaveActed(err, EndpointChallenge), "%v", err)
				synctest.Wait()
				requireAnswered(t, api, 4)
			})
		})
		t.Run(name+"_that_only_rests", func(t *testing.T) {
			overNetwork(t, protocol, func(t *testing.T, n *network, api *Client) {
				for range 3 {
					requireAnswered(t, api, 1)
					<-time.After(time.Minute)
				}
				require.Equal(t, 1, n.fallSilent(), "connections were opened")
			})
		})
	}
	for name, protocol := range map[string]int{"http1": 1, "http2": 2} {
		t.Run(name+"_under_callers_who_leave", func(t *testing.T) {
			overNetwork(t, protocol, func(t *testing.T, n *network, api *Client) {
				requireAnswered(t, api, 4)
				n.fallSilent()
				ctx, leave := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, leave)
				_, err := api.Challenge(ctx)
				require.True(t, MayHaveActed(err, EndpointChallenge), "%v", err)
				synctest.Wait()
				requireAnswered(t, api, 4)
			})
		})
	}
	t.Run("http2_under_many_requests", func(t *testing.T) {
		overNetwork(t, 2, func(t *testing.T, n *network, api *Client) {
			requireAnswered(t, api, 1)
			n.fallSilent()
			began := time.Now()
			var requests sync.WaitGroup
			for range 20 {
				requests.Go(func() {
					_, err := api.Challenge(t.Context())
					assert.Error(t, err)
				})
				<-time.After(time.Second)
			}
			requests.Wait()
			requireAnswered(t, api, 20)
			require.LessOrEqual(t, time.Since(began), 30*time.Second)
		})
	})
	t.Run("http2_that_is_idle", func(t *testing.T) {
		overNetwork(t, 2, func(t *testing.T, n *network, api *Client) {
			requireAnswered(t, api, 1)
			n.fallSilent()
			<-time.After(30 * time.Second)
			requireAnswered(t, api, 1)
		})
	})
}

// requireAnswered sends requests side by side.
func requireAnswered(t *testing.T, api *Client, number int) {
	t.Helper()
	var requests sync.WaitGroup
	for range number {
		requests.Go(func() {
			_, err := api.Challenge(t.Context())
			assert.NoError(t, err)
		})
	}
	requests.Wait()
	require.False(t, t.Failed())
}
