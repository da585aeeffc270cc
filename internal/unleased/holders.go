// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Holders are those of one mount. They are safe for concurrent use, and have no goroutine of their
// own: maintenance calls Advance. A change of the configuration calls Invalidate and RetryNow, and
// waits for no other method: those wait for logins.
type Holders struct {
	Options

	mu      sync.Mutex
	holders map[Key]*holder
	// listed says that the stored states are in holders.
	listed bool
}

// holder is what memory has of one holder.
type holder struct {
	key Key
	// changing admits one change of the state at a time, loading one first read of the token.
	changing, loading *semaphore.Weighted

	// The rest is guarded by the mutex of Holders.

	// token is the one in force; nil where it was not read yet or there is none.
	token *Token
	// changes counts what was published: what was read before is not kept.
	changes int
	// number is that of the token in force, as far as it was published; "" where that is not known.
	number string
	// due is when Advance has to do something; zero for never.
	due time.Time
	// sweep says that the ledger may have tokens of the holder that the state does not name.
	sweep bool
	// retryNow ends the wait after a failure.
	retryNow bool
	// checked is the number of the token that KSeF says is alive, or of one made by this process
	// that need not be asked for.
	checked string
	// recheck is when to ask KSeF for the state of a token that is already given out; zero for not.
	recheck time.Time
	// unanswered counts the questions that KSeF has not answered since it last did.
	unanswered int
	// err is the last failure; nil where it is known from storage only.
	err error
	// faults counts the failed runs of Advance.
	faults   int
	troubles troubles
}

// New returns holders over the storage. It reads nothing yet.
func New(options Options) *Holders {
	return &Holders{Options: options, holders: make(map[Key]*holder)}
}

func (h *Holders) holder(key Key) *holder {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holderLocked(key)
}

func (h *Holders) holderLocked(key Key) *holder {
	found := h.holders[key]
	if found == nil {
		found = &holder{key: key, changing: semaphore.NewWeighted(1), loading: semaphore.NewWeighted(1)}
		h.holders[key] = found
	}
	return found
}

// inForce returns a copy of the token that memory has, nil for none, and the count of changes.
func (h *Holders) inForce(holder *holder) (token *Token, changes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if holder.token != nil {
		token = new(*holder.token)
	}
	return token, holder.changes
}

// update changes what memory has of a holder.
func (h *Holders) update(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// lock admits one change of a holder at a time.
func (h *Holders) lock(ctx context.Context, holder *holder) (release func(), err error) {
	if err := holder.changing.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for another change of the token of %s: %w", holder.key, err)
	}
	return func() { holder.changing.Release(1) }, nil
}

// RetryNow makes rotations due that wait after a failure, since its cause may be gone.
func (h *Holders) RetryNow() {
	h.mu.Lock()
	for _, holder := range h.holders {
		if holder.troubles.failures > 0 || holder.faults > 0 {
			holder.retryNow, holder.due = true, time.Now()
		}
	}
	h.mu.Unlock()
	h.Wake()
}

// Invalidate forgets what memory has of the states: another node may have changed them, or the
// configuration has changed what they must be.
func (h *Holders) Invalidate() { h.invalidate(func(*holder) {}) }

// Recheck is Invalidate where the tokens may have been revoked: those of static roles are checked
// with KSeF before they are returned again, as after a start.
func (h *Holders) Recheck() {
	h.invalidate(func(holder *holder) { holder.checked, holder.number = "", "" })
}

// invalidate calls more for each holder, with the mutex.
func (h *Holders) invalidate(more func(*holder)) {
	h.mu.Lock()
	h.listed = false
	for _, holder := range h.holders {
		holder.token = nil
		holder.changes++
		more(holder)
	}
	h.mu.Unlock()
	h.Wake()
}
