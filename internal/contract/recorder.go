// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// recorder passes a response on and remembers it.
type recorder struct {
	http.ResponseWriter
	status   int
	header   http.Header
	body     bytes.Buffer
	hijacked bool
}

func (r *recorder) WriteHeader(status int) {
	r.begin(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(content []byte) (int, error) {
	r.begin(http.StatusOK)
	n, err := r.ResponseWriter.Write(content)
	r.body.Write(content[:n])
	return n, err
}

// begin remembers the first final status and the headers that go with it. Those before 200 announce
// another, save the one that changes protocols.
func (r *recorder) begin(status int) {
	if r.status != 0 || (status < http.StatusOK && status != http.StatusSwitchingProtocols) {
		return
	}
	r.status, r.header = status, r.Header().Clone()
}

// Flush sends what has been written, where the connection can.
func (r *recorder) Flush() {
	r.begin(http.StatusOK)
	if flusher, can := r.ResponseWriter.(http.Flusher); can {
		flusher.Flush()
	}
}

// Hijack hands over the connection, where it can be had.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	connection, buffer, err := http.NewResponseController(r.ResponseWriter).Hijack()
	r.hijacked = err == nil
	return connection, buffer, err
}

// Unwrap lets http.ResponseController find what else the connection can do.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
