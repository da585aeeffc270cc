// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ratelimit

import (
	"context"
	"time"
)

// After a crash the mounts of a process come back one by one, and until then nobody reads the
// journals of those that are not yet there. So each journal counts the requests of all limiters
// that share its windows.
const (
	// sharerMaxWait is how long a request waits for the journal of another limiter.
	sharerMaxWait = time.Second
	// sharerRest is how long an limiter goes on without a journal of another that failed: one
	// mount's storage must not stop another mount. What is sent in that time is missing there until
	// it can be written again.
	sharerRest = time.Minute
)

// unwrittenOther returns another open limiter for which enough does not hold yet; nil where there
// is none.
func (a *Limiter) unwrittenOther(enough func(*Limiter) bool) *Limiter {
	if len(a.pool.limiters) == 1 && !a.closed {
		return nil
	}
	now := time.Now()
	for _, other := range a.pool.limiters {
		if other != a && !other.closed && !now.Before(other.restsUntil) && !enough(other) {
			return other
		}
	}
	return nil
}

// writeForOther has this limiter's journal written on behalf of another.
func (a *Limiter) writeForOther(ctx context.Context, enough func(*Limiter) bool) {
	bounded, cancel := context.WithTimeout(ctx, sharerMaxWait)
	defer cancel()
	err := a.persist(bounded, func() bool { return a.closed || enough(a) })
	if err != nil && ctx.Err() == nil {
		a.restsUntil = time.Now().Add(sharerRest)
	}
}

// writeOthers has the journals of the others written until enough holds for them.
func (a *Limiter) writeOthers(ctx context.Context, enough func(*Limiter) bool) {
	for ctx.Err() == nil {
		other := a.unwrittenOther(enough)
		if other == nil {
			return
		}
		other.writeForOther(ctx, enough)
	}
}

// catchUp has the journal of an limiter that has just been opened learn what the others have sent
// before. A failure stays: the next write tells it too.
func (a *Limiter) catchUp(ctx context.Context) {
	if len(a.pool.limiters) == 1 || !a.snapshot(time.Now()).hasOthers() {
		return
	}
	a.pool.version++
	opened := a.pool.version
	a.writeForOther(ctx, func(a *Limiter) bool { return a.saved >= opened })
}

func (r record) hasOthers() bool {
	for _, n := range r.Endpoints {
		if len(n.Others) > 0 || n.Blocked > 0 {
			return true
		}
	}
	return false
}

// learn takes over what another's journal knows of an limiter that is not open, unless more is
// known of that.
func (e *endpoint) learn(limiter string, times []sentAt) {
	known := 0
	for _, s := range e.sent {
		if s.limiter == limiter {
			known++
		}
	}
	if len(times) > known {
		e.replace(limiter, times)
	}
}
