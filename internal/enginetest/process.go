// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// point is the n-th time, counted from 1, that a process does something of a kind that outlives it:
// a write to storage, or a request to KSeF.
type point struct {
	kind   string
	number int
}

func (p point) String() string { return fmt.Sprintf("%s #%d", p.kind, p.number) }

// moment is when a process crashes at a point.
type moment string

const (
	noCrash    moment = ""
	justBefore moment = "just before" // it is not done
	justAfter  moment = "just after"  // it is done, and the process does not learn so
)

// Process is a process of the plugin. Once it has ended, nothing that its goroutines still do
// reaches storage or KSeF.
type Process struct {
	ctx      context.Context // ends with it
	end      context.CancelFunc
	factory  logical.Factory
	ksef     http.RoundTripper
	requests sync.WaitGroup // of Vault

	mu     sync.Mutex
	endsAt func(point) moment
	counts map[string]int
	points []point
}

var errProcessEnded = errors.New("the process has ended")

func (env *Env) process() *Process {
	ctx, end := context.WithCancel(env.T.Context())
	p := &Process{ctx: ctx, end: end, ksef: env.Transport}
	p.factory = newFactory(p)
	p.watch(neverCrash)
	return p
}

// neverCrash lets a process pass every point.
func neverCrash(point) moment { return noCrash }

// watch counts points from now on, and asks at each of them whether the process crashes.
func (p *Process) watch(endsAt func(point) moment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endsAt, p.counts, p.points = endsAt, make(map[string]int), nil
}

func (p *Process) reached() []point {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.points
}

func (p *Process) hasEnded() bool { return p.ctx.Err() != nil }

// reach counts a point, and ends the process before it if that is where it crashes. Both happen
// under the lock, so that no other goroutine gets past.
func (p *Process) reach(kind string) moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hasEnded() {
		return justBefore
	}
	p.counts[kind]++
	here := point{kind, p.counts[kind]}
	p.points = append(p.points, here)
	verdict := p.endsAt(here)
	if verdict == justBefore {
		p.end()
	}
	return verdict
}

// do does what a point stands for, unless the process has ended.
func (p *Process) do(kind string, do func() error) error {
	verdict := p.reach(kind)
	if verdict == justBefore {
		return errProcessEnded
	}
	err := do()
	if verdict == justAfter {
		p.end()
	}
	if p.hasEnded() {
		return errProcessEnded
	}
	return err
}

// RoundTrip sends a request, unless the process has ended.
func (p *Process) RoundTrip(request *http.Request) (response *http.Response, err error) {
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	err = p.do(endpointOf(request), func() error {
		response, err = p.ksef.RoundTrip(request.WithContext(ctx)) //nolint:bodyclose // its caller closes it
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// Endpoints, as KSeF's documentation names them.
const (
	IssueEndpoint  = "POST /tokens"
	RevokeEndpoint = "DELETE /tokens/{referenceNumber}"
	StatusEndpoint = "GET /tokens/{referenceNumber}"
	SubmitEndpoint = "POST /auth/xades-signature"
	EnrollEndpoint = "POST /certificates/enrollments"
	GrantsEndpoint = "POST /permissions/query/personal/grants"
)

var (
	referenceInPath = regexp.MustCompile(`\d{8}-[A-Z]{2}-[0-9A-F-]{24}`)
	serialInPath    = regexp.MustCompile(`/[0-9A-F]{16}/`)
)

// endpointOf names a request as KSeF's documentation does.
func endpointOf(request *http.Request) string {
	path := strings.TrimPrefix(request.URL.Path, "/v2")
	path = serialInPath.ReplaceAllString(path, "/{certificateSerialNumber}/")
	return request.Method + " " + referenceInPath.ReplaceAllString(path, "{referenceNumber}")
}

// processStorage is the storage of a mount in a process.
type processStorage struct {
	logical.Storage
	process *Process
}

func (d processStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return d.process.do("put "+folderOf(entry.Key), func() error { return d.Storage.Put(ctx, entry) })
}

func (d processStorage) Delete(ctx context.Context, key string) error {
	return d.process.do("delete "+folderOf(key), func() error { return d.Storage.Delete(ctx, key) })
}

func (d processStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if d.process.hasEnded() {
		return nil, errProcessEnded
	}
	return d.Storage.Get(ctx, key)
}

func (d processStorage) List(ctx context.Context, prefix string) ([]string, error) {
	if d.process.hasEnded() {
		return nil, errProcessEnded
	}
	return d.Storage.List(ctx, prefix)
}

// folderOf is a key without the parts that differ from run to run.
func folderOf(key string) string {
	folders := strings.Split(key, "/")
	switch {
	case len(folders) == 1:
		return key
	case folders[0] == "ledger" && folders[1] == "unleased":
		return "ledger/unleased/" + folders[2] + "/*"
	case folders[0] == "ledger":
		return "ledger/" + folders[1] + "/*"
	}
	return folders[0] + "/*"
}
