// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// moment is one in the life of a request to KSeF that changes something.
type moment int

const (
	rightNow      moment = iota
	beforeRequest        // KSeF never hears of it
	beforeReply          // KSeF has acted, and nobody learns of it
)

// ambush stands between the engine and KSeF and strikes at a moment.
type ambush struct {
	mu   sync.Mutex
	at   moment
	trap func()
}

// around lets requests through to next.
func (a *ambush) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		if a.spring(beforeRequest) {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
		// What next has written has not left yet: it is small, and the server sends it when this
		// returns.
		a.spring(beforeReply)
	})
}

// spring runs the trap where its moment has come. Other requests pass meanwhile: what is held up
// until its sender is dead would be counted too late.
func (a *ambush) spring(now moment) bool {
	a.mu.Lock()
	trap := a.trap
	if trap == nil || a.at != now {
		a.mu.Unlock()
		return false
	}
	a.trap = nil
	a.mu.Unlock()
	trap()
	return true
}

// strike does something at the moment, and says whether it was done: the moment may not come soon.
func (a *ambush) strike(ctx context.Context, at moment, something func() error) bool {
	const patience = 2 * time.Second
	done := make(chan bool, 1)
	a.lay(at, func() { done <- something() == nil })
	select {
	case struck := <-done:
		return struck
	case <-time.After(patience):
	case <-ctx.Done():
	}
	if a.disarm() {
		return false
	}
	return <-done
}

// disarm says whether the trap was still there.
func (a *ambush) disarm() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	armed := a.trap != nil
	a.trap = nil
	return armed
}

func (a *ambush) lay(at moment, trap func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.trap = at, trap
}
