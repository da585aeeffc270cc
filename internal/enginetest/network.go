// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing/iotest"
	"time"
)

// Network lies between the processes of an Env and KSeF. It loses requests, refuses some with 429
// as KSeF does, records an error when a request comes before a Retry-After is over, and remembers
// the secrets in responses.
type Network struct {
	env  *Env
	ksef http.RoundTripper

	mu     sync.Mutex
	outage Outage
	busy   []busy
	// undecided is when KSeF begins to decide logins.
	undecided        time.Time
	blocks           map[string]block
	lossAllowedSince time.Time
	violation        error
}

// Outage is how KSeF is out of reach.
type Outage string

const (
	// Reachable is no outage.
	Reachable Outage = ""
	// Refusing closes each connection at once.
	Refusing Outage = "refusing"
	// Silent answers nothing.
	Silent Outage = "silent"
)

// busy makes KSeF refuse the next request to an endpoint.
type busy struct {
	endpoint   string
	retryAfter time.Duration
}

// block is the time that a 429 forbids.
type block struct{ since, until time.Time }

// ThroughNetwork puts a network before KSeF.
func (env *Env) ThroughNetwork() *Network {
	n := &Network{env: env, ksef: env.Transport, blocks: make(map[string]block)}
	env.SetTransport(n)
	return n
}

// Set begins or ends an outage.
func (n *Network) Set(state Outage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outage = state
}

func (n *Network) refuse(next busy) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy = append(n.busy, next)
}

// DelayLogins keeps KSeF from deciding logins for a while, as it does for qualified certificates
// until their issuer has answered.
func (n *Network) DelayLogins(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.undecided = time.Now().Add(d)
}

func (n *Network) isUndecided(request *http.Request) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return endpointOf(request) == "GET /auth/{referenceNumber}" && time.Now().Before(n.undecided)
}

// Recover ends the outage and the refusals to come. Blocks stay in force.
func (n *Network) Recover() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outage, n.busy = Reachable, nil
}

// allowLostBlocks accepts that processes forget blocks from now on, since storage fails.
func (n *Network) allowLostBlocks() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lossAllowedSince.IsZero() {
		n.lossAllowedSince = time.Now()
	}
}

func (n *Network) mayLoseBlocks() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.lossAllowedSince.IsZero()
}

// forget drops the blocks that the next process cannot know when one has ended: those from that
// moment on, and those that could not be stored.
func (n *Network) forget(since time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.lossAllowedSince.IsZero() {
		since = n.lossAllowedSince
	}
	for where, blocked := range n.blocks {
		if !blocked.since.Before(since) {
			delete(n.blocks, where)
		}
	}
}

// RoundTrip implements http.RoundTripper.
func (n *Network) RoundTrip(request *http.Request) (*http.Response, error) {
	state, refusal := n.arrive(request)
	switch {
	case state == Silent:
		<-request.Context().Done()
		return nil, context.Cause(request.Context())
	case state == Refusing:
		return nil, fmt.Errorf("the connection was closed: %w", io.EOF)
	case refusal != nil:
		return refusal, nil
	}
	response, err := n.ksef.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	n.recordRequest(response)
	return response, nil
}

func (n *Network) arrive(request *http.Request) (Outage, *http.Response) {
	n.mu.Lock()
	defer n.mu.Unlock()
	endpoint, now := endpointOf(request), time.Now()
	if n.outage != Reachable {
		return n.outage, nil
	}
	where := endpoint + " in " + contextOf(request)
	if blocked := n.blocks[where]; now.After(blocked.since) && now.Before(blocked.until) {
		n.violation = fmt.Errorf("%s at %s, though KSeF has asked at %s to wait until %s", where, now, blocked.since, blocked.until)
	}
	for i, next := range n.busy {
		if next.endpoint == endpoint {
			n.busy = append(n.busy[:i], n.busy[i+1:]...)
			n.blocks[where] = block{now, now.Add(next.retryAfter)}
			return Reachable, tooManyRequests(request, next.retryAfter)
		}
	}
	return Reachable, nil
}

func tooManyRequests(request *http.Request, retryAfter time.Duration) *http.Response {
	return &http.Response{
		Status: "429 Too Many Requests", StatusCode: http.StatusTooManyRequests, Request: request,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Retry-After": {strconv.Itoa(int(retryAfter / time.Second))}},
		Body:   io.NopCloser(strings.NewReader("")),
	}
}

// contextOf reads whose limits a request spends from its bearer token; "" where KSeF counts per
// address.
func contextOf(request *http.Request) string {
	parts := strings.Split(request.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct {
		Value string `json:"civ"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Value
}

var secretInReply = regexp.MustCompile(`"token":"([^"]+)"`)

// recordRequest remembers the tokens and JWTs of a response.
func (n *Network) recordRequest(response *http.Response) {
	body, err := io.ReadAll(response.Body)
	if n.isUndecided(response.Request) {
		body = bytes.ReplaceAll(body, []byte(`"code":200`), []byte(`"code":100`))
	}
	for _, found := range secretInReply.FindAllSubmatch(body, -1) {
		n.env.Remember(string(found[1]))
	}
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(cmp.Or(err, io.EOF))))
}
