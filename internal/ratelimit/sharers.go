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
	// otherJournalMaxWait is how long a request waits for the journal of another limiter.
	otherJournalMaxWait = time.Second
	// failedJournalPause is how long a limiter goes on without a journal of another that failed: one
	// mount's storage must not stop another mount. What is sent in that time is missing there until
	// it can be written again.
	failedJournalPause = time.Minute
)

// unwrittenOther returns another open limiter for which enough does not hold yet; nil where there
// is none.
func (l *Limiter) unwrittenOther(upToDate func(*Limiter) bool) *Limiter {
	if len(l.pool.limiters) == 1 && !l.closed {
		return nil
	}
	now := time.Now()
	for _, other := range l.pool.limiters {
		if other != l && !other.closed && !now.Before(other.journalPausedUntil) && !upToDate(other) {
			return other
		}
	}
	return nil
}

// writeForOther has this limiter's journal written on behalf of another.
func (l *Limiter) writeForOther(ctx context.Context, upToDate func(*Limiter) bool) {
	bounded, cancel := context.WithTimeout(ctx, otherJournalMaxWait)
	defer cancel()
	err := l.persist(bounded, func() bool { return l.closed || upToDate(l) })
	if err != nil && ctx.Err() == nil {
		l.journalPausedUntil = time.Now().Add(failedJournalPause)
	}
}

// writeOthers has the journals of the others written until enough holds for them.
func (l *Limiter) writeOthers(ctx context.Context, upToDate func(*Limiter) bool) {
	for ctx.Err() == nil {
		other := l.unwrittenOther(upToDate)
		if other == nil {
			return
		}
		other.writeForOther(ctx, upToDate)
	}
}

// catchUp has the journal of a limiter that has just been opened learn what the others have sent
// before. A failure stays: the next write tells it too.
func (l *Limiter) catchUp(ctx context.Context) {
	if len(l.pool.limiters) == 1 || !l.snapshot(time.Now()).hasOthers() {
		return
	}
	l.pool.version++
	opened := l.pool.version
	l.writeForOther(ctx, func(l *Limiter) bool { return l.saved >= opened })
}

func (r record) hasOthers() bool {
	for _, stored := range r.Endpoints {
		if len(stored.Others) > 0 || stored.Blocked > 0 {
			return true
		}
	}
	return false
}

// replaceIfMore takes over what another's journal knows of a limiter that is not open, unless more is
// known of that.
func (e *endpoint) replaceIfMore(limiter string, times []sentAt) {
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
