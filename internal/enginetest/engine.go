// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Engine is the plugin as Vault runs it: one process at a time serves all mounts. When it crashes,
// another starts.
type Engine struct {
	*Env
	storages []logical.Storage
	views    []*TaintableView
	// onEnd is called with the moment at which a process has ended; nil for nothing.
	onEnd func(at time.Time)

	restarts sync.WaitGroup
	mu       sync.Mutex
	process  *Process      // nil while none runs
	mounts   []*Mount      // nil where one is not loaded yet
	downtime time.Duration // until the next process runs
	// The next process loads its mounts one by one, with a gap between them, beginning with first.
	// With a gap of 0 it loads all at once.
	gap    time.Duration
	first  int
	closed bool
}

var errNoProcess = errors.New("no process of the plugin runs")

// maxRequest is how long Vault lets a request take.
const maxRequest = 90 * time.Second

func (env *Env) engine(storages ...logical.Storage) *Engine {
	e := &Engine{Env: env, storages: storages}
	for range storages {
		e.views = append(e.views, &TaintableView{StaticSystemView: *MountDefaults()})
	}
	e.Start()
	return e
}

// Start starts a process. Like Vault it loads all mounts and then initializes them.
func (e *Engine) Start() {
	p := e.Env.process()
	mounts := make([]*Mount, 0, len(e.storages))
	for number := range e.storages {
		mounts = append(mounts, e.load(p, number))
	}
	for _, m := range mounts {
		m.Initialize()
	}
	e.run(p, mounts)
}

// startOneByOne starts a process whose mounts Vault loads one after the other, as after a crash:
// each at its next request.
func (e *Engine) startOneByOne(first int, gap time.Duration) {
	p := e.Env.process()
	e.run(p, make([]*Mount, len(e.storages)))
	for n := range e.storages {
		if n > 0 {
			<-time.After(gap)
		}
		number := (first + n) % len(e.storages)
		m := e.load(p, number)
		m.Initialize()
		if !e.serve(p, number, m) {
			m.Backend.Cleanup(context.Background())
			return
		}
	}
}

func (e *Engine) load(p *Process, number int) *Mount {
	storage := e.storages[number]
	if flaky, ok := storage.(*FlakyStorage); ok {
		flaky.repairReads()
	}
	m := e.Env.NewMount(processStorage{storage, p})
	m.Ctx, m.View, m.factory = p.ctx, e.views[number], p.factory
	m.Load()
	return m
}

func (e *Engine) run(p *Process, mounts []*Mount) {
	e.mu.Lock()
	e.process, e.mounts = p, mounts
	e.mu.Unlock()
	e.restarts.Go(func() { e.restartAfter(p) })
}

// serve lets requests reach a mount. It returns false if another process has taken over.
func (e *Engine) serve(p *Process, number int, m *Mount) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != p {
		return false
	}
	e.mounts = slices.Clone(e.mounts)
	e.mounts[number] = m
	return true
}

// allLoaded reports whether a process runs and has loaded all mounts.
func (e *Engine) allLoaded() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process != nil && !slices.Contains(e.mounts, nil)
}

func (e *Engine) current() (*Process, []*Mount) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process, e.mounts
}

// withdraw lets no further request reach the process.
func (e *Engine) withdraw() (*Process, []*Mount) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.process
	e.process = nil
	return p, e.mounts
}

// Stop unloads all mounts when their requests have ended, as Vault does.
func (e *Engine) Stop() {
	p, mounts := e.withdraw()
	if p == nil {
		return
	}
	p.requests.Wait()
	cleanUp(mounts)
	e.ended(time.Now())
	p.end()
}

func cleanUp(mounts []*Mount) {
	for _, m := range mounts {
		if m != nil {
			m.Backend.Cleanup(context.Background())
		}
	}
}

func (e *Engine) ended(at time.Time) {
	if e.onEnd != nil {
		e.onEnd(at)
	}
}

// restartAfter waits for the end of a process, and starts another if it has crashed.
func (e *Engine) restartAfter(p *Process) {
	<-p.ctx.Done()
	crashed := time.Now()
	if current, _ := e.current(); current != p {
		return
	}
	_, mounts := e.withdraw()
	cleanUp(mounts)
	e.ended(crashed)
	e.mu.Lock()
	downtime := e.downtime
	e.mu.Unlock()
	<-time.After(downtime)
	e.mu.Lock()
	closed, first, gap := e.closed, e.first, e.gap
	e.mu.Unlock()
	switch {
	case closed:
	case gap > 0:
		e.startOneByOne(first, gap)
	default:
		e.Start()
	}
}

// setDowntime sets how long no process runs after a crash.
func (e *Engine) setDowntime(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.downtime = d
}

// setLoadOrder sets how mounts are loaded after a crash.
func (e *Engine) setLoadOrder(first int, gap time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first, e.gap = first, gap
}

// close stops the engine for good.
func (e *Engine) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.Stop()
	e.restarts.Wait()
}

// result is the outcome of a request.
type result struct {
	response *logical.Response
	err      error
}

// call makes one of Vault's requests. The response of a process that has crashed is lost.
func (e *Engine) call(ctx context.Context, number int, do func(m *Mount) (*logical.Response, error)) (*logical.Response, error) {
	e.mu.Lock()
	p := e.process
	if p == nil || e.mounts[number] == nil {
		e.mu.Unlock()
		return nil, errNoProcess
	}
	p.requests.Add(1)
	served := *e.mounts[number]
	e.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, maxRequest)
	served.Ctx = ctx
	answers := make(chan result, 1)
	go func() {
		defer p.requests.Done()
		defer cancel()
		response, err := do(&served)
		if response != nil && err == nil {
			err = response.Error()
		}
		answers <- result{response, err}
	}()
	select {
	case <-p.ctx.Done():
		return nil, errProcessEnded
	case given := <-answers:
		if p.hasEnded() {
			return nil, errProcessEnded
		}
		return given.response, given.err
	}
}
