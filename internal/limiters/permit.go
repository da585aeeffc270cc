// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package limiters

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// For returns the limiter of a taxpayer's requests; the zero taxpayer stands for logins, which KSeF
// counts per source address.
func (s *Set) For(api string, taxpayer client.ContextIdentifier, wait ratelimit.Wait) client.Limiter {
	return keyLimiter{set: s, key: keyOf(api, taxpayer), wait: wait}
}

// keyLimiter admits the requests of one key.
type keyLimiter struct {
	set  *Set
	key  ratelimit.Key
	wait ratelimit.Wait
}

// Admit waits for the limits of the endpoint.
func (l keyLimiter) Admit(ctx context.Context, endpoint string) (client.Permit, error) {
	began := time.Now()
	limiter, permit, err := l.set.acquire(ctx, l.key, endpoint, l.wait)
	if err != nil {
		return nil, err
	}
	left := l.wait
	left.AtMost -= time.Since(began)
	return &requestPermit{set: l.set, api: l.key.API, endpoint: endpoint, left: left, limiter: limiter, permit: permit}, nil
}

func (s *Set) acquire(ctx context.Context, key ratelimit.Key, endpoint string, wait ratelimit.Wait) (*ratelimit.Limiter, *ratelimit.Permit, error) {
	for {
		limiter, err := s.limiter(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		permit, err := limiter.Acquire(ctx, endpoint, wait)
		if errors.Is(err, ratelimit.ErrClosed) && s.forget(key, limiter) {
			continue // it was idle until this moment
		}
		return limiter, permit, err
	}
}

// requestPermit is a permit of the endpoint and, once it has begun, one of all requests of this
// address.
type requestPermit struct {
	set      *Set
	api      string
	endpoint string
	left     ratelimit.Wait // what the first wait has left of the caller's
	limiter  *ratelimit.Limiter
	permit   *ratelimit.Permit
	overall  *ratelimit.Permit
}

// beginMaxWait bounds the wait between a request's bearer token and its sending: it is longer than
// the minute's window, and shorter than the 90 seconds that an access token from a session has left
// at least.
const beginMaxWait = 75 * time.Second

// Begin waits for the limit of all requests together, beginMaxWait at most.
func (p *requestPermit) Begin(ctx context.Context) error {
	wait := p.left
	wait.AtMost = min(wait.AtMost, beginMaxWait)
	_, permit, err := p.set.acquire(ctx, ratelimit.Key{API: p.api}, ratelimit.AllRequests, wait)
	if err == nil {
		p.overall = permit
	}
	return err
}

// Cancel gives the permits back as unused.
func (p *requestPermit) Cancel() {
	p.permit.Cancel()
	if p.overall != nil {
		p.overall.Cancel()
	}
}

// GiveUp ends the permits of a request whose response is no longer awaited.
func (p *requestPermit) GiveUp(sent time.Time) {
	p.permit.GiveUp(sent)
	p.overall.GiveUp(sent)
}

// blockTimeout bounds how long a block is written.
const blockTimeout = 5 * time.Second

// Done ends the permits, after the block is set: no request goes in between. The block is one of
// the endpoint: a 429 does not say which limit was exceeded.
func (p *requestPermit) Done(retryAfter time.Duration) {
	defer p.overall.Done()
	defer p.permit.Done()
	if retryAfter <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), blockTimeout)
	defer cancel()
	// In memory the block holds whatever becomes of the write.
	_ = p.limiter.Block(ctx, p.endpoint, time.Now().Add(ratelimit.KeptRetryAfter(retryAfter)))
}
