// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
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
	"time"
)

// Network lies between a world's processes and KSeF. It loses what it is told to lose, refuses with
// 429 as KSeF does, watches that nobody comes back before the time named there, and notes each
// secret that passes.
type Network struct {
	env  *Env
	ksef http.RoundTripper

	mu     sync.Mutex
	outage Outage
	busy   []busy
	// undecided is until when KSeF has not decided any login.
	undecided        time.Time
	blocks           map[string]block
	lossAllowedSince time.Time
	violation        error
}

// Outage is how KSeF is out of reach.
type Outage string

const (
	Reachable Outage = ""
	Refusing  Outage = "refusing" // each connection is closed at once
	Silent    Outage = "silent"   // nothing ever comes back
)

// busy makes KSeF refuse the next request to an endpoint.
type busy struct {
	endpoint   string
	retryAfter time.Duration
}

// block is what a 429 has demanded.
type block struct{ since, until time.Time }

// ThroughNetwork puts a network before the world's KSeF.
func (env *Env) ThroughNetwork() *Network {
	n := &Network{env: env, ksef: env.Transport, blocks: make(map[string]block)}
	env.SetTransport(n)
	return n
}

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

// DelayLogins keeps KSeF from deciding logins for a while, as where it asks the issuer of a
// qualified certificate.
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

// Recover ends all that was ordered; what a 429 has demanded still holds.
func (n *Network) Recover() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outage, n.busy = Reachable, nil
}

// allowLostBlocks says that from now on a process may fail to write down what a 429 has demanded.
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

// forget is for the end of a process: what it has learned at this moment, or may have failed to
// write down, the next one cannot know.
func (n *Network) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	since := time.Now()
	if !n.lossAllowedSince.IsZero() {
		since = n.lossAllowedSince
	}
	for taxpayer, block := range n.blocks {
		if !block.since.Before(since) {
			delete(n.blocks, taxpayer)
		}
	}
}

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
	return response, n.recordRequest(response)
}

func (n *Network) arrive(request *http.Request) (Outage, *http.Response) {
	n.mu.Lock()
	defer n.mu.Unlock()
	endpoint, now := endpointOf(request), time.Now()
	if n.outage != Reachable {
		return n.outage, nil
	}
	taxpayer := endpoint + " in " + contextOf(request)
	if block := n.blocks[taxpayer]; now.After(block.since) && now.Before(block.until) {
		n.violation = fmt.Errorf("%s at %s, though KSeF has asked at %s to stay away until %s", taxpayer, now, block.since, block.until)
	}
	for i, next := range n.busy {
		if next.endpoint == endpoint {
			n.busy = append(n.busy[:i], n.busy[i+1:]...)
			n.blocks[taxpayer] = block{now, now.Add(next.retryAfter)}
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

// recordRequest remembers the tokens and JWTs of a reply, whoever gets to see it.
func (n *Network) recordRequest(response *http.Response) error {
	body, err := io.ReadAll(response.Body)
	if n.isUndecided(response.Request) {
		body = bytes.ReplaceAll(body, []byte(`"code":200`), []byte(`"code":100`))
	}
	for _, found := range secretInReply.FindAllSubmatch(body, -1) {
		n.env.Remember(string(found[1]))
	}
	broken := io.Reader(bytes.NewReader(body))
	if err != nil {
		broken = io.MultiReader(broken, brokenOff{err})
	}
	response.Body = io.NopCloser(broken)
	return nil
}

type brokenOff struct{ err error }

func (b brokenOff) Read([]byte) (int, error) { return 0, b.err }
