// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/failure"

	"golang.org/x/sync/semaphore"
)

// ErrStopped is returned after Stop.
var ErrStopped = errors.New("the mount is being unloaded; ask again")

const (
	// workers bounds how many access tokens are refreshed at once without a reader that waits.
	workers = 8
	// loginPause lies between two logins of the background work, and between two refreshes after a
	// start: five a second.
	loginPause = 200 * time.Millisecond
	// interval is the longest pause of the loop.
	interval = time.Hour
)

// Tokens keep the access tokens of a mount. They are safe for concurrent use.
type Tokens struct {
	options Options
	loop    *background.Loop
	workers *semaphore.Weighted
	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	running sync.WaitGroup

	restored bool // the keys of before have been read; only the loop uses it

	mu        sync.Mutex // guards the fields below
	entries   map[Key]*entry
	nextLogin time.Time
}

// New returns Tokens that wait for Start: until then they are read, and not refreshed ahead.
func New(options Options) *Tokens {
	t := &Tokens{options: options, workers: semaphore.NewWeighted(workers), entries: make(map[Key]*entry)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.loop = background.NewLoop(background.LoopOptions{
		Name: "refreshing access tokens", Logger: options.Logger, Interval: interval, RunOnce: t.runOnce,
	})
	return t
}

// Start begins to refresh the access tokens that are read, those included that were read within 24
// hours before this process. A second Start, and one after Stop, does nothing.
func (t *Tokens) Start() { t.loop.Start() }

// WakeIfLate begins the refreshes that became due while the machine slept.
func (t *Tokens) WakeIfLate() { t.loop.WakeIfLate() }

// Stop ends the work in progress and waits for it. Sessions stay.
func (t *Tokens) Stop() {
	t.mu.Lock()
	t.cancel()
	t.mu.Unlock()
	t.loop.Stop()
	t.running.Wait()
}

// spawn runs f in a goroutine that Stop waits for. It returns false after Stop.
func (t *Tokens) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.running.Go(f)
	return true
}

// contain calls f and returns its error, or a panic as one.
func (t *Tokens) contain(f func() error) (err error) {
	defer background.Recover(t.options.Logger, "the work for an access token", &err)
	return f()
}

// Read returns the access token of the key. It waits only where there is none in memory that lives
// for 60 s more: for a refresh, or for the key's one login. It fails with the errors of Login and
// of session.Manager, as a 503 where KSeF does not answer, and with ErrStopped.
func (t *Tokens) Read(ctx context.Context, key Key) (*Token, error) {
	for {
		e := t.read(key)
		if token := e.token(); token != nil {
			return token, nil
		}
		err := t.await(ctx, t.renew(e))
		if err == nil {
			continue
		}
		if token := e.token(); token != nil {
			return token, nil // the session is the right one, only a refresh has failed
		}
		return nil, err
	}
}

// Has reports whether a login for the key has been made or tried, in this process or before it: a
// Read then makes no first login for its taxpayer. Its error is of storage.
func (t *Tokens) Has(ctx context.Context, key Key) (bool, error) {
	t.mu.Lock()
	e := t.entries[key]
	t.mu.Unlock()
	if e != nil && e.isKnown() {
		return true, nil
	}
	found, err := t.readRecord(ctx, key.path())
	if err != nil {
		return false, fmt.Errorf("reading when an access token was read: %w", err)
	}
	return found != nil, nil
}

// Renew logs in anew now, and ends the session before once the new one works. It goes on where the
// caller leaves. Its errors are those of Read; after one, the access token before is still
// answered.
func (t *Tokens) Renew(ctx context.Context, key Key) (*Token, error) {
	w := newWork()
	renew := func() {
		bounded, cancel := context.WithTimeout(t.ctx, renewalTimeout)
		defer cancel()
		w.end(t.exclusively(bounded, key, t.loginAnew))
	}
	if !t.spawn(renew) {
		w.end(ErrStopped)
	}
	if err := t.await(ctx, w); err != nil {
		return nil, err
	}
	return t.Read(ctx, key)
}

// await waits for work that goes on where the caller leaves. Its error is the work's, with its
// status for Vault's user.
func (t *Tokens) await(ctx context.Context, w *work) error {
	select {
	case <-w.done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for KSeF's access token: %w", ctx.Err())
	}
	switch {
	case w.err == nil:
		return nil
	case t.ctx.Err() != nil:
		return failure.WithStatus(http.StatusServiceUnavailable, ErrStopped)
	case failure.IsInconclusive(w.err):
		return failure.WithStatus(http.StatusServiceUnavailable, fmt.Errorf("KSeF gives no access token now, and there is none that lives for long enough: %w", w.err))
	}
	return w.err
}

// Changed says that Login may have another answer for the keys that match, all for nil. The next
// read of each waits for it before an access token is handed out, and asks KSeF only where the
// fingerprint is another.
func (t *Tokens) Changed(match func(Key) bool) {
	for _, e := range t.all() {
		if match == nil || match(e.key) {
			e.expect(true)
		}
	}
	t.loop.Wake()
}

// Moved is Changed for all keys where what was handed out stays right, such as after a rotation of
// the mount's certificate: reads do not wait. Sessions are made anew in the background, at most
// five a second.
func (t *Tokens) Moved() {
	for _, e := range t.all() {
		e.expect(false)
	}
	t.loop.Wake()
}

// read returns the entry of a key that is read now.
func (t *Tokens) read(key Key) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entryLocked(key)
	e.setRead(time.Now())
	return e
}

func (t *Tokens) entry(key Key) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entryLocked(key)
}

func (t *Tokens) entryLocked(key Key) *entry {
	e := t.entries[key]
	if e == nil {
		e = newEntry(key)
		t.entries[key] = e
	}
	return e
}

func (t *Tokens) all() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	return all
}

// exclusively calls do while nothing else is done for the key.
func (t *Tokens) exclusively(ctx context.Context, key Key, do func(context.Context, *entry) error) error {
	e, err := t.lock(ctx, key)
	if err != nil {
		return err
	}
	defer e.lock.Release(1)
	return t.contain(func() error { return do(ctx, e) })
}

// lock returns the key's entry with its lock.
func (t *Tokens) lock(ctx context.Context, key Key) (*entry, error) {
	for {
		e := t.entry(key)
		if err := e.lock.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("waiting for the login in %s: %w", key.Taxpayer, err)
		}
		if !e.isForgotten() {
			return e, nil
		}
		e.lock.Release(1)
	}
}
