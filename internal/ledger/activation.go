// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/budget"
	"vault-plugin-secrets-ksef/internal/wait"
)

// pollPatience is how long a look at pending tokens waits for KSeF's limits.
const pollPatience = 5 * time.Second

// answerMargin is left of the caller's time for answering with a token that is
// still Pending.
const answerMargin = 2 * time.Second

// pollPause is the time between two looks; tokens are Pending for seconds.
func pollPause(looks int) time.Duration {
	pauses := [...]time.Duration{time.Second, time.Second, 2 * time.Second}
	if looks < len(pauses) {
		return pauses[looks]
	}
	return 3 * time.Second
}

// watch is the poller that all who wait in one context share: a request for
// each of them would cost as much of KSeF's limit as issuing does.
type watch struct {
	waiting map[string]chan client.TokenStatus
	lastErr error
}

// awaitActive waits until KSeF reports another status than Pending, at most for
// the timeout. The error says why the answer is still Pending.
func (l *Ledger) awaitActive(ctx context.Context, target Target, referenceNumber string, timeout time.Duration) (client.TokenStatus, error) {
	end := time.Now().Add(timeout)
	if bound, bounded := ctx.Deadline(); bounded && bound.Add(-answerMargin).Before(end) {
		end = bound.Add(-answerMargin)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	decided := l.watch(target, referenceNumber)
	select {
	case status := <-decided:
		return status, nil
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	lastErr := l.unwatch(target, referenceNumber)
	if lastErr != nil {
		return client.StatusPending, fmt.Errorf("KSeF did not tell the token's status: %w", lastErr)
	}
	return client.StatusPending, fmt.Errorf("KSeF has not activated the token within %s", timeout)
}

func (l *Ledger) watch(target Target, referenceNumber string) <-chan client.TokenStatus {
	decided := make(chan client.TokenStatus, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return decided
	}
	w := l.watches[target]
	if w == nil {
		w = &watch{waiting: make(map[string]chan client.TokenStatus)}
		l.watches[target] = w
		l.work.Go(func() { l.poll(target, w) })
	}
	w.waiting[referenceNumber] = decided
	return decided
}

func (l *Ledger) unwatch(target Target, referenceNumber string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.watches[target]
	if w == nil {
		return nil
	}
	delete(w.waiting, referenceNumber)
	return w.lastErr
}

// poll looks until nobody waits any more.
func (l *Ledger) poll(target Target, w *watch) {
	for looks := 0; ; looks++ {
		if !wait.For(l.ctx, pollPause(looks)) {
			return
		}
		waiting := l.stillWaiting(target, w)
		if len(waiting) == 0 {
			return
		}
		statuses, err := l.look(target, waiting)
		l.tell(w, statuses, err)
	}
}

// stillWaiting also ends the watch where nobody waits, in one step, so that
// whoever comes next begins another.
func (l *Ledger) stillWaiting(target Target, w *watch) map[string]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := make(map[string]struct{}, len(w.waiting))
	for referenceNumber := range w.waiting {
		waiting[referenceNumber] = struct{}{}
	}
	if len(waiting) == 0 {
		delete(l.watches, target)
	}
	return waiting
}

func (l *Ledger) tell(w *watch, statuses map[string]client.TokenStatus, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.lastErr = err
	for referenceNumber, status := range statuses {
		decided, waits := w.waiting[referenceNumber]
		if !waits || status == client.StatusPending {
			continue
		}
		decided <- status
		delete(w.waiting, referenceNumber)
	}
}

// look asks for one token by its number and for many by pages of the list,
// newest first, until all have been seen.
func (l *Ledger) look(target Target, waiting map[string]struct{}) (statuses map[string]client.TokenStatus, err error) {
	defer l.contain(&err)
	api, err := l.Open(l.ctx, target, budget.Wait{AtMost: pollPatience})
	if err != nil {
		return nil, err
	}
	if len(waiting) == 1 {
		for referenceNumber := range waiting {
			token, err := api.Token(l.ctx, referenceNumber)
			if err == nil {
				return map[string]client.TokenStatus{referenceNumber: token.Status}, nil
			}
			// The list has a limit of its own.
			if exhausted := new(*budget.ExhaustedError); !errors.As(err, exhausted) {
				return nil, err
			}
		}
	}
	return l.lookAtList(api, waiting)
}

func (l *Ledger) lookAtList(api Upstream, waiting map[string]struct{}) (map[string]client.TokenStatus, error) {
	mountID, err := l.id(l.ctx)
	if err != nil {
		return nil, err
	}
	// A page beyond the number of those waiting holds older tokens only, but
	// for those issued since: a few pages more are enough.
	pages := 2 + len(waiting)/client.MaxPageSize
	query := client.TokenQuery{Description: mountMark(mountID), PageSize: client.MaxPageSize}
	seen := make(map[string]client.TokenStatus, len(waiting))
	for range pages {
		page, err := api.QueryTokens(l.ctx, query)
		if err != nil {
			return seen, err
		}
		for _, token := range page.Tokens {
			if _, waits := waiting[token.ReferenceNumber]; waits {
				seen[token.ReferenceNumber] = token.Status
			}
		}
		if len(seen) == len(waiting) || page.Continuation == "" {
			break
		}
		query.Continuation = page.Continuation
	}
	return seen, nil
}
