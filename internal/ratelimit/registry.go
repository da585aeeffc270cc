// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrJournalInUse is returned for a journal that an open limiter writes to.
var ErrJournalInUse = errors.New("the journal is in use by another open limiter: close that first")

// Key identifies what KSeF counts together.
type Key struct {
	// API is the base URL of KSeF's API.
	API string
	// Context is the taxpayer's context, such as "Nip:5265877635". It is empty for what KSeF counts
	// per source address: the endpoints before login, and [AllRequests].
	Context string
}

// Registry holds the windows of a process, so that mounts with the same KSeF context share them.
type Registry struct {
	clock string // identifies the clock of this process

	mu    sync.Mutex // guards everything below the registry; never held across a call to a journal
	pools map[Key]*pool
}

// pool holds what the limiters of one key share.
type pool struct {
	registry  *Registry
	key       Key
	endpoints map[string]*endpoint
	limiters  map[string]*Limiter // open ones
	unsaved   bool                // a limiter could not write its last state
	version   uint64              // counts the changes that journals should have
}

// NewRegistry makes an empty registry. A process has one.
func NewRegistry() *Registry {
	return &Registry{clock: clockID(), pools: map[Key]*pool{}}
}

// Open opens a limiter on the windows of a key and adds what its journal knows to them. Each
// limiter needs a journal of its own: otherwise Open returns [ErrJournalInUse]. After an
// [UnreadableError], call [Registry.OpenFull]. Other errors come from loading the journal. Each
// journal also counts what the other open limiters of the key have sent, so that one journal is
// enough after a crash.
func (r *Registry) Open(ctx context.Context, key Key, journal Journal) (*Limiter, error) {
	data, err := journal.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading the journal of KSeF's request limits: %w", err)
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
			e.remembered = keptHour // the login that reports the first limit counts already
		}
		p.endpoints[name] = e
	}
	return e
}

// Limits returns the limits that apply to an endpoint of a key.
func (r *Registry) Limits(key Key, endpoint string) Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pools[key]; p != nil && p.endpoints[endpoint] != nil {
		return p.endpoints[endpoint].limits
	}
	return DocumentedLimits(endpoint)
}

// dropIfIdle removes an unused pool, once the journals have its state and no request is in flight:
// a journal would date that one too early.
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

// UnreadableError is returned for a journal that cannot be decoded.
type UnreadableError struct {
	// Data is the journal's content.
	Data []byte
	err  error
}

func (e *UnreadableError) Error() string { return e.err.Error() }

func (e *UnreadableError) Unwrap() error { return e.err }

// OpenFull opens a limiter whose journal cannot be read. What was sent is unknown, so every window
// of these endpoints counts as full from now on. The journal is replaced accordingly.
func (r *Registry) OpenFull(ctx context.Context, key Key, journal Journal, endpoints []string) (*Limiter, error) {
	l, err := r.open(ctx, key, journal, record{})
	if err != nil {
		return nil, err
	}
	if err := l.fill(ctx, endpoints); err != nil {
		return nil, errors.Join(err, l.Close(ctx))
	}
	return l, nil
}

// fill counts as many requests as the largest limit of each endpoint, all of them just ended, and
// writes the journal.
func (l *Limiter) fill(ctx context.Context, endpoints []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.pool.hasRequestsOfClosed(now) {
		endpoints = nil // another journal has counted what this limiter has sent
	}
	for _, name := range endpoints {
		e := l.pool.endpoint(name)
		most := max(e.limits.PerSecond, e.limits.PerMinute, e.limits.PerHour)
		e.replace(l.id, slices.Repeat([]sentAt{{at: now, limiter: l.id}}, most))
		e.dispatch(now)
		l.pool.version++
	}
	version := l.pool.version
	return l.persist(ctx, func() bool { return l.saved >= version })
}

// hasRequestsOfClosed reports whether there are requests of a limiter that is not open. A journal
// that was not open while another limiter sent has none.
func (p *pool) hasRequestsOfClosed(now time.Time) bool {
	for _, e := range p.endpoints {
		if slices.ContainsFunc(e.counted(now), func(s sentAt) bool { return p.limiters[s.limiter] == nil }) {
			return true
		}
	}
	return false
}

// CloseIdle closes the limiter if for the given time there was nothing to remember, also of other
// limiters of the key. It reports whether the limiter is closed, so that its journal can be
// deleted.
func (l *Limiter) CloseIdle(idle time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	now := time.Now()
	if l.writing != nil || !l.pool.empty(now) {
		l.emptySince = time.Time{}
		return false
	}
	if l.emptySince.IsZero() {
		l.emptySince = now
	}
	if now.Sub(l.emptySince) < idle {
		return false
	}
	l.closed = true
	delete(l.pool.limiters, l.id)
	l.pool.dropIfIdle()
	return true
}

// reportedLimitsLast is longer than the 7 days of a KSeF session: each login asks for the limits,
// so older ones are out of use.
const reportedLimitsLast = 8 * 24 * time.Hour

// empty reports whether the windows can be dropped without loss.
func (p *pool) empty(now time.Time) bool {
	for _, e := range p.endpoints {
		e.prune(now)
		busy := len(e.counted(now)) > 0 || e.inFlight > 0 || len(e.queue) > 0 || e.blocked.After(now)
		reported := e.limits != DocumentedLimits(e.name) && now.Sub(e.limitsSet) < reportedLimitsLast
		if busy || reported {
			return false
		}
	}
	return true
}
