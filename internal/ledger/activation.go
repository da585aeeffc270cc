// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// pollMaxWait is how long a poll of pending tokens waits for KSeF's limits.
const pollMaxWait = 5 * time.Second

// responseMargin is the part of the caller's time that remains for a response with a Pending token.
const responseMargin = 2 * time.Second

// watch is the poller that all waiters of one context share: a request for each of them would cost
// as much of KSeF's limit as issuing does.
type watch struct {
	waiting map[string]*waiter
	// wake is filled when a waiter joins.
	wake     chan struct{}
	lastPoll time.Time
	lastErr  error
}

// awaitActive waits until KSeF reports another status than Pending, at most for the timeout. The
// error is why the status is still Pending.
func (l *Ledger) awaitActive(ctx context.Context, target Target, referenceNumber string, timeout time.Duration) (client.Token, error) {
	end := time.Now().Add(timeout)
	if bound, bounded := ctx.Deadline(); bounded && bound.Add(-responseMargin).Before(end) {
		end = bound.Add(-responseMargin)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	w := &waiter{since: time.Now(), end: end, decided: make(chan client.Token, 1)}
	l.watch(target, referenceNumber, w)
	select {
	case token := <-w.decided:
		return token, nil
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	lastErr := l.unwatch(target, referenceNumber)
	pending := client.Token{Status: client.StatusPending}
	if lastErr != nil {
		return pending, fmt.Errorf("KSeF did not return the token's status: %w", lastErr)
	}
	return pending, fmt.Errorf("KSeF has not activated the token within %s", timeout)
}

func (l *Ledger) watch(target Target, referenceNumber string, joining *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	w := l.watches[target]
	if w == nil {
		w = &watch{waiting: make(map[string]*waiter), wake: make(chan struct{}, 1)}
		l.watches[target] = w
		l.keepRunning(func() { l.poll(target, w) })
	}
	w.waiting[referenceNumber] = joining
	select {
	case w.wake <- struct{}{}:
	default:
	}
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

// poll asks KSeF until no waiter is left.
func (l *Ledger) poll(target Target, w *watch) {
	for {
		waiting, next := l.nextPoll(target, w)
		if len(waiting) == 0 {
			return
		}
		if wait := time.Until(next); wait > 0 {
			if !background.SleepOrWake(l.ctx, wait, w.wake) {
				return
			}
			continue
		}
		tokens, err := l.pollOnce(target, waiting)
		l.publish(target, w, waiting, tokens, err)
	}
}

// nextPoll returns the waiters and when to poll next. Without a waiter it ends the watch in the
// same step, so that the next waiter begins another.
func (l *Ledger) nextPoll(target Target, w *watch) (waiting map[string]*waiter, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(w.waiting) == 0 {
		delete(l.watches, target)
	}
	for _, waiter := range w.waiting {
		next = earlierEnd(next, l.pace.next(waiter))
	}
	if len(w.waiting) > 1 {
		next = later(next, w.lastPoll.Add(sharedPause))
	}
	return maps.Clone(w.waiting), later(next, l.failedPolls[target].next)
}

// failedPolls are a context's polls in a row whose replies were lost. They outlast their waiters,
// so that an outage does not use up the hour's requests.
type failedPolls struct {
	count int
	next  time.Time
}

// recordPoll sets the pause after a poll. l.mu must be locked.
func (l *Ledger) recordPoll(target Target, err error, now time.Time) {
	maps.DeleteFunc(l.failedPolls, func(_ Target, lost failedPolls) bool { return now.Sub(lost.next) > lostBackoff.Longest })
	if !client.MayHaveActed(err, client.EndpointToken) && !client.MayHaveActed(err, client.EndpointQueryTokens) {
		delete(l.failedPolls, target)
		return
	}
	count := l.failedPolls[target].count
	l.failedPolls[target] = failedPolls{count + 1, now.Add(lostBackoff.Exact(count))}
}

// publish hands each decided token to its waiter, and adjusts the pace to the time that it took.
func (l *Ledger) publish(target Target, w *watch, polled map[string]*waiter, tokens map[string]client.Token, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	w.lastErr, w.lastPoll = err, now
	l.recordPoll(target, err, now)
	var samples []time.Duration
	for referenceNumber := range polled {
		waiter, waits := w.waiting[referenceNumber]
		if !waits {
			continue
		}
		waiter.lastPoll = now
		age := now.Sub(waiter.since)
		switch token := tokens[referenceNumber]; token.Status {
		case "":
		case client.StatusPending:
			waiter.pendingAt = age
		default:
			if sample, ok := l.pace.sample(waiter, age); ok && token.Status == client.StatusActive {
				samples = append(samples, sample)
			}
			waiter.decided <- token
			delete(w.waiting, referenceNumber)
		}
	}
	l.pace.update(samples)
}

// pollOnce asks for one token by its number, and for several by pages of the list, newest first,
// until all were seen.
func (l *Ledger) pollOnce(target Target, waiting map[string]*waiter) (tokens map[string]client.Token, err error) {
	defer background.Recover(l.Logger, "the wait for Active", &err)
	api, err := l.Upstream(l.ctx, target, ratelimit.Wait{AtMost: pollMaxWait})
	if err != nil {
		return nil, err
	}
	if len(waiting) == 1 {
		for referenceNumber := range waiting {
			token, err := api.Token(l.ctx, referenceNumber)
			if err == nil {
				return map[string]client.Token{referenceNumber: *token}, nil
			}
			// The list has its own limit.
			if exhausted := new(*ratelimit.ExhaustedError); !errors.As(err, exhausted) {
				return nil, err
			}
		}
	}
	return l.pollList(api, waiting)
}

func (l *Ledger) pollList(api Upstream, waiting map[string]*waiter) (map[string]client.Token, error) {
	mountID, err := l.id(l.ctx)
	if err != nil {
		return nil, err
	}
	// Later pages have older tokens only, but for those issued since: a few more pages are enough.
	pages := 2 + len(waiting)/client.MaxPageSize
	seen := make(map[string]client.Token, len(waiting))
	for tokens, err := range listPages(l.ctx, api, client.TokenQuery{Description: mountMark(mountID)}) {
		for _, token := range tokens {
			if _, waits := waiting[token.ReferenceNumber]; waits {
				seen[token.ReferenceNumber] = token
			}
		}
		if pages--; err != nil || pages == 0 || len(seen) == len(waiting) {
			return seen, err
		}
	}
	return seen, nil
}

const (
	// firstExpected is how long an activation is taken to last before one has been seen.
	firstExpected    = time.Second
	shortestExpected = 250 * time.Millisecond
	longestExpected  = 10 * time.Second
	// shortestPause and longestPause bound the time between two polls of a token, sharedPause that
	// between two lists.
	shortestPause = 500 * time.Millisecond
	longestPause  = 3 * time.Second
	sharedPause   = time.Second
)

// lostBackoff is the pause after polls whose replies were lost.
var lostBackoff = background.Backoff{Shortest: shortestPause, Longest: 30 * time.Second}

// waiter is a caller that waits until its token is Active.
type waiter struct {
	// since is when KSeF returned the token, end when the caller gets its response in any case.
	since, end time.Time
	// lastPoll is when the token was last polled, pendingAt its age when it was last Pending.
	lastPoll  time.Time
	pendingAt time.Duration
	decided   chan client.Token
}

// activationPace estimates how long KSeF takes to activate most tokens, from the last ones.
type activationPace struct {
	expected time.Duration
	// early counts the samples in a row that have made it shorter.
	early int
}

func newActivationPace() activationPace { return activationPace{expected: firstExpected} }

// next is when to poll the waiter's token next: when it is expected to be Active, then at growing
// intervals.
func (p *activationPace) next(w *waiter) time.Time {
	if !w.lastPoll.IsZero() {
		late := w.lastPoll.Sub(w.since) - p.expected
		return w.lastPoll.Add(min(max(late/4, shortestPause), longestPause))
	}
	expected := w.since.Add(p.expected)
	if last := w.end.Add(-shortestPause); expected.After(last) {
		return last
	}
	return expected
}

// sample estimates how long one activation took; false where the token was not polled when it was
// expected to be Active.
func (p *activationPace) sample(w *waiter, age time.Duration) (time.Duration, bool) {
	switch {
	case w.pendingAt >= p.expected:
		return (w.pendingAt + age) / 2, true
	case w.pendingAt == 0 && age < p.expected+shortestPause:
		// It may have been Active before; the more often in a row, the longer.
		return min(age, p.expected) - max(p.expected/25, 50*time.Millisecond)<<min(p.early, 3), true
	}
	return 0, false
}

// update takes the mean of the samples of one poll. A single slow token changes little.
func (p *activationPace) update(samples []time.Duration) {
	if len(samples) == 0 {
		return
	}
	var sum time.Duration
	for _, sample := range samples {
		sum += sample
	}
	mean := min(sum/time.Duration(len(samples)), p.expected*5/4+100*time.Millisecond)
	if mean < p.expected {
		p.early++
	} else {
		p.early = 0
	}
	p.expected = min(max(mean, shortestExpected), longestExpected)
}
