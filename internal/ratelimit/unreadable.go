// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"errors"
	"time"
)

// UnreadableError says that a journal holds what cannot be read.
type UnreadableError struct {
	// Data is what the journal holds.
	Data []byte
	err  error
}

func (e *UnreadableError) Error() string { return e.err.Error() }

func (e *UnreadableError) Unwrap() error { return e.err }

// OpenFull opens an limiter whose journal cannot be read. What was sent is unknown, so that every
// window of these endpoints counts as full from now on; the journal is replaced by a record that
// says so.
func (r *Registry) OpenFull(ctx context.Context, key Key, journal Journal, endpoints []string) (*Limiter, error) {
	a, err := r.open(ctx, key, journal, record{})
	if err != nil {
		return nil, err
	}
	a.fill(endpoints)
	if err := a.store(ctx); err != nil {
		return nil, errors.Join(err, a.Close(ctx))
	}
	return a, nil
}

func (a *Limiter) fill(endpoints []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.pool.knowsAbsent(now) {
		return // the journal of another limiter has counted what this one has sent
	}
	for _, name := range endpoints {
		e := a.pool.endpoint(name)
		e.replace(a.id, fullWindows(e.limits, a.id, now))
		e.settle(now)
	}
	a.pool.version++
}

// knowsAbsent tells whether requests of an limiter are known that is not open. A journal that was
// not in use while another limiter sent tells of none.
func (p *pool) knowsAbsent(now time.Time) bool {
	for _, e := range p.endpoints {
		for _, s := range e.counting(now) {
			if p.limiters[s.limiter] == nil {
				return true
			}
		}
	}
	return false
}

// fullWindows are as many requests as the widest window takes, all of them just ended.
func fullWindows(limits Limits, limiter string, now time.Time) []sentAt {
	most := max(limits.PerSecond, limits.PerMinute, limits.PerHour)
	times := make([]sentAt, most)
	for i := range times {
		times[i] = sentAt{at: now, limiter: limiter}
	}
	return times
}

// store writes the limiter's state to its journal.
func (a *Limiter) store(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	version := a.pool.version
	return a.persist(ctx, func() bool { return a.saved >= version })
}
