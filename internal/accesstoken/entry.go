// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/session"

	"golang.org/x/sync/semaphore"
)

const (
	// keptUnread is how long a key is kept that is not read.
	keptUnread = 24 * time.Hour
	// usualPeriod is the interval of the refreshes. An access token with a life of less than
	// usualLife, which is KSeF's 15 minutes less what their measurement may lose, is refreshed
	// shortLifeParts times in it.
	usualPeriod    = 4 * time.Minute
	usualLife      = 14 * time.Minute
	shortLifeParts = 5
	// leastLeft is what an access token that is handed out has left to live, or half of its life
	// where that is less.
	leastLeft = time.Minute
	// leastTTL is the least that is said to be left until the next refresh: consul-template waits
	// for five minutes where it is less.
	leastTTL = 5 * time.Second
)

// retry is the pause after a failed refresh. It stays short while readers are served from memory.
var retry = background.Backoff{Shortest: 15 * time.Second, Longest: 5 * time.Minute}

// entry is what memory has of a key.
type entry struct {
	key  Key
	lock *semaphore.Weighted // guards the fields below: one login, refresh or end at a time
	// sessions is nil until the first login or refresh; client and fingerprint are what it was made
	// for.
	sessions    *session.Manager
	client      *client.Client
	fingerprint string
	// superseded says that the key has no sessions of other fingerprints.
	superseded bool

	mu        sync.Mutex // guards the fields below
	fetched   *fetched
	renewal   *work // the renewal in progress; nil for none
	lastRead  time.Time
	recorded  time.Time // the time of a read that storage has; zero for unknown
	due       time.Time // of the next renewal; zero for none
	failures  int       // since there is no access token to hand out
	failure   error     // of the last renewal
	failedAt  time.Time // when the first of those failed that have failed since the last success
	changes   int       // how often Changed was called
	checked   int       // the changes that the access token takes into account
	known     bool      // there has been an access token, in this process or before it
	forgotten bool      // it is no longer the key's entry
}

// fetched is an access token in memory. Its times have monotonic readings.
type fetched struct {
	access                client.Secret
	number                string
	fetchedAt, validUntil time.Time
}

func newEntry(key Key) *entry { return &entry{key: key, lock: semaphore.NewWeighted(1)} }

// period is the interval of the refreshes.
func (f *fetched) period() time.Duration {
	if life := f.life(); life < usualLife {
		return life / shortLifeParts
	}
	return usualPeriod
}

func (f *fetched) life() time.Duration { return f.validUntil.Sub(f.fetchedAt) }

// due is when the access token is refreshed.
func (f *fetched) due() time.Time { return f.fetchedAt.Add(f.period()) }

// serves says that the access token lives for long enough to be handed out.
func (f *fetched) serves(now time.Time) bool {
	return f != nil && f.validUntil.Sub(now) >= min(leastLeft, f.life()/2)
}

// isYoung says that the access token is not to be refreshed yet.
func (f *fetched) isYoung(now time.Time) bool { return f != nil && now.Before(f.due()) }

// token returns what a read is answered with from memory; nil for nothing.
func (e *entry) token() *Token {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.checked != e.changes || !e.fetched.serves(now) {
		return nil
	}
	token := &Token{
		AccessToken: e.fetched.access, SessionNumber: e.fetched.number, FetchedAt: e.fetched.fetchedAt, ExpiresAt: e.fetched.validUntil,
		TTL: ttl(e.due.Sub(now)), RefreshPeriod: e.fetched.period(),
	}
	if e.failure != nil {
		token.Warning = fmt.Sprintf("KSeF has given no newer access token since %s; this one ends at %s: %v",
			e.failedAt.UTC().Format(time.RFC3339), e.fetched.validUntil.UTC().Format(time.RFC3339), e.failure)
	}
	return token
}

// ttl rounds up, so that who reads again finds the next access token.
func ttl(left time.Duration) time.Duration {
	return max(leastTTL, (left + time.Second - 1).Truncate(time.Second))
}

func (e *entry) setRead(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastRead = at
}

// reads returns when the key was read last, and which read storage has.
func (e *entry) reads() (last, recorded time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastRead, e.recorded
}

func (e *entry) setRecorded(read time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recorded = read
}

func (e *entry) isUnread() bool {
	last, _ := e.reads()
	return time.Since(last) >= keptUnread
}

func (e *entry) isKnown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known
}

func (e *entry) isForgotten() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.forgotten
}

// expect makes a renewal due now, for which reads wait or not.
func (e *entry) expect(readsWait bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.due = time.Now()
	if readsWait {
		e.changes++
	}
}

// beginRenewal returns the renewal in progress, or another, which the caller must then run.
func (e *entry) beginRenewal() (w *work, begun bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.renewal != nil {
		return e.renewal, false
	}
	e.renewal = newWork()
	return e.renewal, true
}

func (e *entry) endRenewal(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.renewal.end(err)
	e.renewal = nil
}

// nextDue returns when a renewal is due; zero for none, or where one is in progress.
func (e *entry) nextDue() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.renewal != nil {
		return time.Time{}
	}
	return e.due
}

func (e *entry) changesNow() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changes
}

// confirm says that the changes leave the access token in memory as it is. It returns true where
// that is not to be refreshed yet.
func (e *entry) confirm(changes int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checked = changes
	if !e.fetched.isYoung(time.Now()) {
		return false
	}
	e.due = e.fetched.due()
	return true
}

// succeed takes a new access token, which takes the changes into account.
func (e *entry) succeed(next *fetched, changes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fetched, e.checked, e.failure, e.failures, e.due = next, changes, nil, 0, next.due()
	e.known = true
}

// fail remembers why there is no newer access token. first is false where the renewal before has
// failed too.
func (e *entry) fail(err error) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	first = e.failure == nil
	if first {
		e.failedAt = now
	}
	e.failure, e.due = err, now.Add(retry.Jittered(e.failures))
	if !e.fetched.serves(now) {
		e.failures++
	}
	return first
}

// clear forgets the session.
func (e *entry) clear() {
	e.sessions, e.client, e.fingerprint, e.superseded = nil, nil, "", false
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fetched, e.failure, e.failures, e.due, e.known = nil, nil, 0, time.Time{}, false
}

// retryEnd has the end of the session tried again, unless the key is read before.
func (e *entry) retryEnd() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastRead, e.due = time.Time{}, time.Now().Add(retry.Longest)
}
