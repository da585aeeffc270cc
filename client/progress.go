// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// progress is how far a request has come, which net/http's errors do not say. A dial may outlast
// its request, hence the atomics.
type progress struct {
	connected, handshakeFailed atomic.Bool
}

// follow returns a context for a request with the method, whose progress p then has. Where a kept
// connection is lost, net/http asks for another: for a GET always, otherwise only if nothing was
// written to the first.
func (p *progress) follow(ctx context.Context, method string) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			if method != http.MethodGet {
				p.connected.Store(false)
			}
		},
		GotConn: func(httptrace.GotConnInfo) { p.connected.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				p.handshakeFailed.Store(true)
			}
		},
	})
}

// unsent says that a failed request certainly had no connection.
func (p *progress) unsent(err error) bool {
	failed, found := errors.AsType[*net.OpError](err)
	noConnection := found && (failed.Op == "dial" || failed.Op == "proxyconnect")
	return !p.connected.Load() && (noConnection || p.handshakeFailed.Load())
}
