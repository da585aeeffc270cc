// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"time"
)

// Limiter admits requests: it knows KSeF's limits and says when one may go.
type Limiter interface {
	// Admit waits until a request to the endpoint may be sent. Where it returns nil, the permit is
	// closed exactly once.
	Admit(ctx context.Context, endpoint string) (Permit, error)
}

// Permit is the permission to send one request.
type Permit interface {
	// Begin waits for what KSeF limits over all requests together. It is called once, when the
	// bearer token is at hand: to get one may take a login, whose requests must not wait for this
	// one. Where it fails, nothing is sent and Cancel follows.
	Begin(ctx context.Context) error
	// Done says that the exchange has ended. retryAfter is what a 429 asked for, 0 otherwise.
	Done(retryAfter time.Duration)
	// GiveUp is Done for a request sent at that time whose answer is no longer awaited: KSeF may
	// count it later.
	GiveUp(sent time.Time)
	// Cancel says that the request was certainly never sent.
	Cancel()
}

// WithLimiter returns a client that sends each request through the limiter.
func (c *Client) WithLimiter(limiter Limiter) *Client {
	limited := *c
	limited.limiter = limiter
	return &limited
}

type unlimited struct{}

func (unlimited) Admit(context.Context, string) (Permit, error) { return unlimited{}, nil }

func (unlimited) Begin(context.Context) error { return nil }

func (unlimited) Done(time.Duration) {}

func (unlimited) GiveUp(time.Time) {}

func (unlimited) Cancel() {}
