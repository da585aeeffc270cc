// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// recorder forwards a response and records it.
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

// begin records the first final status and its headers. A status below 200 precedes another, except
// for the one that switches protocols.
func (r *recorder) begin(status int) {
	if r.status != 0 || (status < http.StatusOK && status != http.StatusSwitchingProtocols) {
		return
	}
	r.status, r.header = status, r.Header().Clone()
}

// Flush flushes the connection if it can.
func (r *recorder) Flush() {
	r.begin(http.StatusOK)
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Hijack takes over the connection if it can.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	connection, buffer, err := http.NewResponseController(r.ResponseWriter).Hijack()
	r.hijacked = err == nil
	return connection, buffer, err
}

// Unwrap gives http.ResponseController access to the connection's other methods.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
