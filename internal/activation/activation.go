// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package activation waits until KSeF has activated new tokens.
package activation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"

	"github.com/hashicorp/go-hclog"
)

// responseMargin is the part of the caller's time that remains for a response with a Pending token.
const responseMargin = 2 * time.Second

// Poll asks KSeF for tokens of a group by their reference numbers. Those that it has not seen are
// not in the result.
type Poll[G comparable] func(ctx context.Context, group G, referenceNumbers []string) (map[string]client.Token, error)

// Poller asks for the tokens that callers wait for. All that wait for tokens of one group, such as
// a taxpayer's, share its polls.
type Poller[G comparable] struct {
	poll   Poll[G]
	logger hclog.Logger
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	watches map[G]*watch
	pace    pace
	// failedPolls are those of the groups whose last polls failed.
	failedPolls map[G]failedPolls
}

// New returns a Poller, which works until ctx ends or Stop is called.
func New[G comparable](ctx context.Context, logger hclog.Logger, poll Poll[G]) *Poller[G] {
	ctx, stop := context.WithCancel(ctx) //nolint:gosec // Stop calls it
	return &Poller[G]{
		poll: poll, logger: logger, ctx: ctx, stop: stop,
		watches: make(map[G]*watch), pace: newPace(), failedPolls: make(map[G]failedPolls),
	}
}

// Stop ends the waits and the polls in progress, and returns when none is left.
func (p *Poller[G]) Stop() {
	p.mu.Lock()
	p.stop()
	p.mu.Unlock()
	p.work.Wait()
}

// watch is what all waiters of one group share: a request for each of them would cost as much of
// KSeF's limit as issuing does.
type watch struct {
	waiting map[string]*waiter
	// wake is filled when a waiter joins.
	wake     chan struct{}
	lastPoll time.Time
	lastErr  error
}

// Await waits until KSeF reports another status than Pending, at most for the timeout, until two
// seconds before the end of ctx, or until Stop. The error is why the status is still Pending.
func (p *Poller[G]) Await(ctx context.Context, group G, referenceNumber string, timeout time.Duration) (client.Token, error) {
	end := time.Now().Add(timeout)
	if bound, bounded := ctx.Deadline(); bounded && bound.Add(-responseMargin).Before(end) {
		end = bound.Add(-responseMargin)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	w := &waiter{since: time.Now(), end: end, decided: make(chan client.Token, 1)}
	p.watch(group, referenceNumber, w)
	select {
	case token := <-w.decided:
		return token, nil
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
	lastErr := p.unwatch(group, referenceNumber)
	pending := client.Token{Status: client.StatusPending}
	if lastErr != nil {
		return pending, fmt.Errorf("KSeF did not return the token's status: %w", lastErr)
	}
	return pending, fmt.Errorf("KSeF has not activated the token within %s", time.Since(w.since).Truncate(time.Millisecond))
}

func (p *Poller[G]) watch(group G, referenceNumber string, joining *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	w := p.watches[group]
	if w == nil {
		w = &watch{waiting: make(map[string]*waiter), wake: make(chan struct{}, 1)}
		p.watches[group] = w
		p.work.Go(func() {
			background.KeepRunning(p.ctx, p.logger, "the wait for Active", func() { p.serve(group, w) })
		})
	}
	w.waiting[referenceNumber] = joining
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (p *Poller[G]) unwatch(group G, referenceNumber string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watches[group]
	if w == nil {
		return nil
	}
	delete(w.waiting, referenceNumber)
	return w.lastErr
}

// serve polls until no waiter is left.
func (p *Poller[G]) serve(group G, w *watch) {
	for {
		waiting, next := p.nextPoll(group, w)
		if len(waiting) == 0 {
			return
		}
		if wait := time.Until(next); wait > 0 {
			if !background.SleepOrWake(p.ctx, wait, w.wake) {
				return
			}
			continue
		}
		tokens, err := p.pollOnce(group, waiting)
		p.publish(group, w, waiting, tokens, err)
	}
}

// nextPoll returns the waiters and when to poll next. Without a waiter it ends the watch in the
// same step, so that the next waiter begins another.
func (p *Poller[G]) nextPoll(group G, w *watch) (waiting map[string]*waiter, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(w.waiting) == 0 {
		delete(p.watches, group)
	}
	for _, waiter := range w.waiting {
		if at := p.pace.next(waiter); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if len(w.waiting) > 1 {
		next = later(next, w.lastPoll.Add(sharedPause))
	}
	return maps.Clone(w.waiting), later(next, p.failedPolls[group].next)
}

// failedPolls are a group's polls in a row whose replies were lost. They outlast their waiters, so
// that an outage does not use up the hour's requests.
type failedPolls struct {
	count int
	next  time.Time
}

// recordPoll sets the pause after a poll. p.mu must be locked.
func (p *Poller[G]) recordPoll(group G, err error, now time.Time) {
	maps.DeleteFunc(p.failedPolls, func(_ G, lost failedPolls) bool { return now.Sub(lost.next) > lostBackoff.Longest })
	if !client.MayHaveActed(err, client.EndpointToken) && !client.MayHaveActed(err, client.EndpointQueryTokens) {
		delete(p.failedPolls, group)
		return
	}
	count := p.failedPolls[group].count
	p.failedPolls[group] = failedPolls{count + 1, now.Add(lostBackoff.Exact(count))}
}

// publish hands each decided token to its waiter, and adjusts the pace to the time that it took.
func (p *Poller[G]) publish(group G, w *watch, polled map[string]*waiter, tokens map[string]client.Token, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	w.lastErr, w.lastPoll = err, now
	p.recordPoll(group, err, now)
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
			if sample, ok := p.pace.sample(waiter, age); ok && token.Status == client.StatusActive {
				samples = append(samples, sample)
			}
			waiter.decided <- token
			delete(w.waiting, referenceNumber)
		}
	}
	p.pace.update(samples)
}

func (p *Poller[G]) pollOnce(group G, waiting map[string]*waiter) (tokens map[string]client.Token, err error) {
	defer background.Recover(p.logger, "the wait for Active", &err)
	return p.poll(p.ctx, group, slices.Collect(maps.Keys(waiting)))
}

func later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
