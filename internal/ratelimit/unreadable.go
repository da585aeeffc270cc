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

// OpenFull opens a limiter whose journal cannot be read. What was sent is unknown, so that every
// window of these endpoints counts as full from now on; the journal is replaced by a record that
// says so.
func (r *Registry) OpenFull(ctx context.Context, key Key, journal Journal, endpoints []string) (*Limiter, error) {
	l, err := r.open(ctx, key, journal, record{})
	if err != nil {
		return nil, err
	}
	l.fill(endpoints)
	if err := l.store(ctx); err != nil {
		return nil, errors.Join(err, l.Close(ctx))
	}
	return l, nil
}

func (l *Limiter) fill(endpoints []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.pool.hasRequestsOfClosed(now) {
		return // the journal of another limiter has counted what this one has sent
	}
	for _, name := range endpoints {
		e := l.pool.endpoint(name)
		e.replace(l.id, fullWindows(e.limits, l.id, now))
		e.dispatch(now)
	}
	l.pool.version++
}

// hasRequestsOfClosed tells whether requests of a limiter are known that is not open. A journal that was
// not in use while another limiter sent tells of none.
func (p *pool) hasRequestsOfClosed(now time.Time) bool {
	for _, e := range p.endpoints {
		for _, s := range e.counted(now) {
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
func (l *Limiter) store(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	version := l.pool.version
	return l.persist(ctx, func() bool { return l.saved >= version })
}
