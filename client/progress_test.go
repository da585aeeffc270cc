// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTransportErrorText(t *testing.T) {
	closing := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer closing.Close()
	half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"referenceNumber":"2025`)
	}))
	defer half.Close()
	for name, test := range map[string]struct {
		config Config
		sent   bool
		text   string
	}{
		"no listener": {
			Config{URL: "http://" + unusedAddress(t)}, false,
			"KSeF could not be reached for POST /tokens: dial tcp",
		},
		"another authority": {
			Config{URL: closing.URL}, false,
			"KSeF could not be reached for POST /tokens: tls: failed to verify certificate",
		},
		"closed without an answer": {
			Config{URL: closing.URL, Transport: closing.Client().Transport}, true,
			"KSeF's answer to POST /tokens was lost: EOF",
		},
		"half an answer": {
			Config{URL: half.URL}, true,
			"KSeF's answer to POST /tokens was lost: status 202: the answer ended early",
		},
		"nothing known": {
			Config{URL: TestURL, Transport: brokenTransport{io.EOF}}, true,
			"KSeF could not be reached for POST /tokens, or its answer was lost: EOF",
		},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := New(test.config)
			require.NoError(t, err)
			defer made.Close()
			limiter := &recordingLimiter{}
			_, err = made.WithLimiter(limiter).GenerateToken(t.Context(), TokenRequest{})
			var lost *TransportError
			require.ErrorAs(t, err, &lost)
			require.Equal(t, test.sent, lost.Sent)
			require.Contains(t, err.Error(), test.text)
			require.Equal(t, !test.sent, limiter.cancelled == 1, "a request that was not sent uses no permit")
		})
	}
}

// unusedAddress is an address without a listener.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// TestProgressOfASecondConnection loses a kept connection before anything is written to it, so that
// net/http dials anew.
func TestProgressOfASecondConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"referenceNumber":"20251010-EC-1DCE3E3000-12ECB5B36E-45","token":"t"}`)
	}))
	defer server.Close()
	var broken atomic.Bool
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if broken.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &breakingConn{conn, &broken}, err
	}}
	defer transport.CloseIdleConnections()
	made, err := New(Config{URL: server.URL, Transport: transport})
	require.NoError(t, err)
	defer made.Close()
	limiter := &recordingLimiter{}
	_, err = made.WithLimiter(limiter).GenerateToken(t.Context(), TokenRequest{})
	require.NoError(t, err)
	broken.Store(true)
	_, err = made.WithLimiter(limiter).GenerateToken(t.Context(), TokenRequest{})
	require.ErrorContains(t, err, "KSeF could not be reached for POST /tokens: dial")
	require.False(t, MayHaveActed(err, EndpointGenerateToken))
	require.Equal(t, 1, limiter.cancelled)
}

// breakingConn writes nothing any more once it is broken.
type breakingConn struct {
	net.Conn
	broken *atomic.Bool
}

func (c *breakingConn) Write(data []byte) (int, error) {
	if c.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(data)
}
