// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
)

// ErrJournalInUse is the answer to opening a journal that an open limiter writes to.
var ErrJournalInUse = errors.New("the budget journal is in use by another open account: close that first")

// Key says what KSeF counts together.
type Key struct {
	// API is the base URL of KSeF's API.
	API string
	// Context is the taxpayer's context, such as "Nip:5265877635". It is empty for what KSeF counts
	// per source address: the endpoints before login, and [AllRequests].
	Context string
}

// Registry holds the windows of a process, so that all mounts which use the same KSeF context share
// them.
type Registry struct {
	clock string // by which it tells the time

	mu    sync.Mutex // guards everything below the registry; never held across a call to a journal
	pools map[Key]*pool
}

// pool is what the limiters of one key share.
type pool struct {
	registry  *Registry
	key       Key
	endpoints map[string]*endpoint
	limiters  map[string]*Limiter // open ones
	unsaved   bool                // a limiter could not write its last state
	version   uint64              // counts the changes that the journals should know
}

// NewRegistry makes an empty registry. A process has one.
func NewRegistry() *Registry {
	return &Registry{clock: clockID(), pools: map[Key]*pool{}}
}

// Open opens a limiter on the windows of a key and adds to them what its journal knows. Each
// limiter needs a journal of its own: [ErrJournalInUse] if another open limiter of that key has it,
// and an [UnreadableError] where [Registry.OpenFull] must take its place. Other errors come from
// loading the journal. Each journal also counts what the other open limiters of the key have sent,
// so that one alone is enough after a crash.
func (r *Registry) Open(ctx context.Context, key Key, journal Journal) (*Limiter, error) {
	data, err := journal.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading the budget journal: %w", err)
	}
	rec, err := decode(data)
	if err != nil {
		return nil, &UnreadableError{Data: data, err: err}
	}
	return r.open(ctx, key, journal, rec)
}

func (r *Registry) open(ctx context.Context, key Key, journal Journal, rec record) (*Limiter, error) {
	if rec.Limiter == "" {
		rec.Limiter = rand.Text()
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pool(key)
	if p.limiters[rec.Limiter] != nil {
		return nil, ErrJournalInUse
	}
	l := &Limiter{mu: &r.mu, pool: p, id: rec.Limiter, journal: journal, reservations: map[*endpoint]*reservation{}}
	p.limiters[l.id] = l
	l.saved = p.version
	l.restore(rec)
	l.catchUp(ctx)
	return l, nil
}

func (r *Registry) pool(key Key) *pool {
	p := r.pools[key]
	if p == nil {
		p = &pool{registry: r, key: key, endpoints: map[string]*endpoint{}, limiters: map[string]*Limiter{}}
		r.pools[key] = p
	}
	return p
}

func (p *pool) endpoint(name string) *endpoint {
	e := p.endpoints[name]
	if e == nil {
		e = &endpoint{name: name, mu: &p.registry.mu, windows: windows{limits: DocumentedLimits(name)}}
		if name == AllRequests {
			e.remembered = keptHour // the login that tells the first limit counts already
		}
		p.endpoints[name] = e
	}
	return e
}

// Limits returns the limits in force for an endpoint of a key, whichever limiter has been told
// them.
func (r *Registry) Limits(key Key, endpoint string) Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pools[key]; p != nil && p.endpoints[endpoint] != nil {
		return p.endpoints[endpoint].limits
	}
	return DocumentedLimits(endpoint)
}

// dropIfIdle forgets a pool that nobody uses, once the journals have all of it and no request is in
// flight that a journal would date too early.
func (p *pool) dropIfIdle() {
	if len(p.limiters) > 0 || p.unsaved {
		return
	}
	for _, e := range p.endpoints {
		if e.inFlight > 0 {
			return
		}
	}
	if p.registry.pools[p.key] == p {
		delete(p.registry.pools, p.key)
	}
}
