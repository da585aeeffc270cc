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

// moment is a point in a request to KSeF that changes something.
type moment int

const (
	rightNow       moment = iota
	beforeRequest         // KSeF does not receive it
	beforeResponse        // KSeF has acted, and its response is lost
)

// killer runs an action at a moment of a request between the engine and KSeF.
type killer struct {
	mu     sync.Mutex
	at     moment
	action func()
}

// middleware passes requests to next.
func (a *killer) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		if a.runAt(beforeRequest) {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
		// The response of next is not sent before this returns: it is small.
		a.runAt(beforeResponse)
	})
}

// runAt runs the action if its moment has come. Other requests pass: one delayed until its sender
// is killed would be counted too late.
func (a *killer) runAt(now moment) bool {
	a.mu.Lock()
	action := a.action
	if action == nil || a.at != now {
		a.mu.Unlock()
		return false
	}
	a.action = nil
	a.mu.Unlock()
	action()
	return true
}

// run runs an action at the moment, and reports whether it succeeded: the moment may not come soon.
func (a *killer) run(ctx context.Context, at moment, something func() error) bool {
	const maxWait = 2 * time.Second
	done := make(chan bool, 1)
	a.set(at, func() { done <- something() == nil })
	select {
	case ended := <-done:
		return ended
	case <-time.After(maxWait):
	case <-ctx.Done():
	}
	if a.cancel() {
		return false
	}
	return <-done
}

// cancel reports whether the action was still pending.
func (a *killer) cancel() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	pending := a.action != nil
	a.action = nil
	return pending
}

func (a *killer) set(at moment, action func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.action = at, action
}
