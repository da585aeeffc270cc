// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// NewTransport makes a RoundTripper that runs a handler in the calling goroutine, without sockets,
// so that clients can be tested in a testing/synctest bubble. The handler sees the address
// 127.0.0.1 and the request's context. It behaves as a server on a socket: http.ErrAbortHandler
// becomes io.EOF, a body shorter than its Content-Length ends with io.ErrUnexpectedEOF, and a
// request whose context has ended gets the error of the context even if it took effect.
func NewTransport(h http.Handler) http.RoundTripper {
	return NewTransportFrom(h, "127.0.0.1")
}

// NewTransportFrom is NewTransport for a client with another IP address.
func NewTransportFrom(h http.Handler, address string) http.RoundTripper {
	return transport{h, net.JoinHostPort(address, "1")}
}

type transport struct {
	handler http.Handler
	remote  string // the client's address and port
}

// RoundTrip returns the response to one request.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }() // nothing was written, so nothing can be lost
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	recorder := &recorder{header: http.Header{}}
	aborted := t.run(recorder, t.serverRequest(r))
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if aborted && recorder.status == 0 {
		return nil, fmt.Errorf("the connection was closed without a response: %w", io.EOF)
	}
	return recorder.response(r, aborted), nil
}

// run calls the handler and reports whether it aborted the connection. It passes on any other
// panic.
func (t transport) run(w http.ResponseWriter, r *http.Request) (aborted bool) {
	defer func() {
		if fault := recover(); fault != nil {
			err, isError := fault.(error)
			if !isError || !errors.Is(err, http.ErrAbortHandler) {
				panic(fault)
			}
			aborted = true
		}
	}()
	t.handler.ServeHTTP(w, r)
	return false
}

// serverRequest turns a client's request into what a server would see.
func (t transport) serverRequest(r *http.Request) *http.Request {
	server := r.Clone(r.Context())
	server.RequestURI = r.URL.RequestURI()
	server.RemoteAddr = t.remote
	if server.Host == "" {
		server.Host = r.URL.Host
	}
	if server.Body == nil {
		server.Body = http.NoBody
	}
	return server
}

// recorder is the ResponseWriter of a request in this process.
type recorder struct {
	status int // 0 until the header is written
	header http.Header
	sent   http.Header
	body   bytes.Buffer
}

// Header returns the header that WriteHeader will send.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader sends the header; only the first call counts.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status, r.sent = status, r.header.Clone()
	}
}

// Write adds to the body.
func (r *recorder) Write(data []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(data)
}

// response returns what the client gets. The body ends with an error where a socket would be closed
// too early.
func (r *recorder) response(to *http.Request, aborted bool) *http.Response {
	r.WriteHeader(http.StatusOK)
	written := r.body.Len()
	response := &http.Response{
		Status: strconv.Itoa(r.status) + " " + http.StatusText(r.status), StatusCode: r.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.sent, Body: io.NopCloser(&r.body), ContentLength: int64(written), Request: to,
	}
	declared, err := strconv.Atoi(r.sent.Get("Content-Length"))
	if err == nil {
		response.ContentLength = int64(declared)
	}
	if aborted || (err == nil && written < declared) {
		response.Body = io.NopCloser(io.MultiReader(&r.body, brokenReader{}))
	}
	return response
}

type brokenReader struct{}

// Read always fails.
func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
