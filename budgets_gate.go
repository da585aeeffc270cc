// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/budget"
)

// gate admits requests in one context. The zero context is that of logins,
// which KSeF counts per address.
func (b *budgets) gate(api string, in client.Context, wait budget.Wait) client.Gate {
	key := budget.Key{API: api}
	if !in.IsZero() {
		key.Context = in.String()
	}
	return gate{budgets: b, key: key, wait: wait}
}

type gate struct {
	budgets *budgets
	key     budget.Key
	wait    budget.Wait
}

// Admit waits for the limits of the endpoint.
func (g gate) Admit(ctx context.Context, endpoint string) (client.Pass, error) {
	asked := time.Now()
	account, slot, err := g.budgets.acquire(ctx, g.key, endpoint, g.wait)
	if err != nil {
		return nil, err
	}
	left := g.wait
	left.AtMost -= time.Since(asked)
	return &pass{budgets: g.budgets, key: g.key, endpoint: endpoint, left: left, account: account, slot: slot}, nil
}

func (b *budgets) acquire(ctx context.Context, key budget.Key, endpoint string, wait budget.Wait) (*budget.Account, *budget.Slot, error) {
	for {
		account, err := b.account(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		slot, err := account.Acquire(ctx, endpoint, wait)
		if errors.Is(err, budget.ErrClosed) && b.forget(key, account) {
			continue // it was idle until this moment
		}
		return account, slot, err
	}
}

// pass is a slot of the endpoint and, once it has begun, one of all requests of this address.
type pass struct {
	budgets  *budgets
	key      budget.Key
	endpoint string
	left     budget.Wait
	account  *budget.Account
	slot     *budget.Slot
	overall  *budget.Slot
}

// beginMaxWait bounds the wait between a request's bearer token and its sending: it is longer than
// the minute's window, and shorter than an access token still lasts that a session gives out (90 s).
const beginMaxWait = 75 * time.Second

// Begin waits for the limits of all requests together, for what is left of the time that the gate
// allows and for beginMaxWait at most.
func (p *pass) Begin(ctx context.Context) error {
	wait := p.left
	wait.AtMost = min(wait.AtMost, beginMaxWait)
	_, slot, err := p.budgets.acquire(ctx, budget.Key{API: p.key.API}, budget.AllRequests, wait)
	if err == nil {
		p.overall = slot
	}
	return err
}

// Cancel gives the slots back as never used.
func (p *pass) Cancel() {
	p.slot.Cancel()
	if p.overall != nil {
		p.overall.Cancel()
	}
}

// GiveUp ends the slots, too.
func (p *pass) GiveUp(sent time.Time) {
	p.slot.GiveUp(sent)
	p.overall.GiveUp(sent)
}

// Done ends the slots, after the block is set: no request goes in between. The block is one of the
// endpoint: a 429 does not tell which limit was exceeded.
func (p *pass) Done(retryAfter time.Duration) {
	defer p.overall.Done()
	defer p.slot.Done()
	if retryAfter <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	// In memory the block holds whatever becomes of the write.
	_ = p.account.Block(ctx, p.endpoint, time.Now().Add(budget.KeptRetryAfter(retryAfter)))
}
