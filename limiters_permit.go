// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// forContext admits requests in one context. The zero context is that of logins, which KSeF counts
// per address.
func (b *limiters) forContext(api string, taxpayer client.ContextIdentifier, wait ratelimit.Wait) client.Limiter {
	key := ratelimit.Key{API: api}
	if !taxpayer.IsZero() {
		key.Context = taxpayer.String()
	}
	return contextLimiter{limiters: b, key: key, wait: wait}
}

type contextLimiter struct {
	limiters *limiters
	key      ratelimit.Key
	wait     ratelimit.Wait
}

// Admit waits for the limits of the endpoint.
func (g contextLimiter) Admit(ctx context.Context, endpoint string) (client.Permit, error) {
	asked := time.Now()
	limiter, permit, err := g.limiters.acquire(ctx, g.key, endpoint, g.wait)
	if err != nil {
		return nil, err
	}
	left := g.wait
	left.AtMost -= time.Since(asked)
	return &requestPermit{limiters: g.limiters, key: g.key, endpoint: endpoint, left: left, limiter: limiter, permit: permit}, nil
}

func (b *limiters) acquire(ctx context.Context, key ratelimit.Key, endpoint string, wait ratelimit.Wait) (*ratelimit.Limiter, *ratelimit.Permit, error) {
	for {
		limiter, err := b.limiter(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		permit, err := limiter.Acquire(ctx, endpoint, wait)
		if errors.Is(err, ratelimit.ErrClosed) && b.forget(key, limiter) {
			continue // it was idle until this moment
		}
		return limiter, permit, err
	}
}

// requestPermit is a permit of the endpoint and, once it has begun, one of all requests of this
// address.
type requestPermit struct {
	limiters *limiters
	key      ratelimit.Key
	endpoint string
	left     ratelimit.Wait
	limiter  *ratelimit.Limiter
	permit   *ratelimit.Permit
	overall  *ratelimit.Permit
}

// beginMaxWait bounds the wait between a request's bearer token and its sending: it is longer than
// the minute's window, and shorter than an access token still lasts that a session gives out (90
// s).
const beginMaxWait = 75 * time.Second

// Begin waits for the limits of all requests together, for what is left of the time that the gate
// allows and for beginMaxWait at most.
func (p *requestPermit) Begin(ctx context.Context) error {
	wait := p.left
	wait.AtMost = min(wait.AtMost, beginMaxWait)
	_, permit, err := p.limiters.acquire(ctx, ratelimit.Key{API: p.key.API}, ratelimit.AllRequests, wait)
	if err == nil {
		p.overall = permit
	}
	return err
}

// Cancel gives the permits back as never used.
func (p *requestPermit) Cancel() {
	p.permit.Cancel()
	if p.overall != nil {
		p.overall.Cancel()
	}
}

// GiveUp ends the permits, too.
func (p *requestPermit) GiveUp(sent time.Time) {
	p.permit.GiveUp(sent)
	p.overall.GiveUp(sent)
}

// Done ends the permits, after the block is set: no request goes in between. The block is one of
// the endpoint: a 429 does not tell which limit was exceeded.
func (p *requestPermit) Done(retryAfter time.Duration) {
	defer p.overall.Done()
	defer p.permit.Done()
	if retryAfter <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	// In memory the block holds whatever becomes of the write.
	_ = p.limiter.Block(ctx, p.endpoint, time.Now().Add(ratelimit.KeptRetryAfter(retryAfter)))
}
