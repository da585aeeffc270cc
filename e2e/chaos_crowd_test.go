// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// crowd asks for leases and treats them in all the ways there are. It notes what Vault has
// answered.
type crowd struct {
	vault *server
	mount string

	mu     sync.Mutex
	leases map[string]*held
	// answers counts what requests for a token were answered with, by HTTP status; 0 is none.
	// exhausted counts those that the engine itself refused, since KSeF's limits left no room soon.
	answers   map[int]int
	exhausted int
}

// held is a lease that somebody has received.
type held struct {
	leaseID, reference string
	// ends says that somebody has asked for its end, or lets it run out.
	ends bool
}

func newCrowd(vault *server, mount string) *crowd {
	return &crowd{vault: vault, mount: mount, leases: make(map[string]*held), answers: make(map[int]int)}
}

// one asks for a token until there is one, and then does one thing or another with its lease.
// Errors are what happens here; only the end of ctx is an error.
func (c *crowd) one(ctx context.Context, dice *rand.Rand) error {
	fates := []struct {
		ttl  time.Duration
		live func(context.Context, *rand.Rand, *held) error
	}{
		{time.Hour, c.keep},
		{5*time.Second + upTo(dice, 15*time.Second), c.letRunOut},
		{time.Hour, c.revoke},
		{time.Hour, c.deleteToken},
		{renewedWithin, c.renew},
	}
	fate := fates[dice.IntN(len(fates))]
	lease, err := c.issue(ctx, dice, fate.ttl)
	if err != nil {
		return err
	}
	return fate.live(ctx, dice, lease)
}

func (c *crowd) issue(ctx context.Context, dice *rand.Rand, ttl time.Duration) (*held, error) {
	for {
		answer, err := c.vault.Logical().WriteWithContext(ctx, c.mount+"/creds/invoices", map[string]any{"ttl": ttl.String()})
		c.count(err)
		if err == nil {
			lease := &held{leaseID: answer.LeaseID, reference: answer.Data["reference_number"].(string)}
			c.mu.Lock()
			c.leases[lease.leaseID] = lease
			c.mu.Unlock()
			return lease, nil
		}
		if err := pause(ctx, upTo(dice, 4*time.Second)); err != nil {
			return nil, fmt.Errorf("no token was to be had: %w", err)
		}
	}
}

func (c *crowd) count(err error) {
	status := statusOf(err)
	if err == nil {
		status = http.StatusOK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[status]++
	if status == http.StatusTooManyRequests && strings.Contains(err.Error(), "next slot at") {
		c.exhausted++
	}
}

func (c *crowd) keep(context.Context, *rand.Rand, *held) error { return nil }

func (c *crowd) letRunOut(_ context.Context, _ *rand.Rand, lease *held) error {
	c.end(lease)
	return nil
}

func (c *crowd) end(lease *held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lease.ends = true
}

// revoke asks once, and does not care for the answer.
func (c *crowd) revoke(ctx context.Context, dice *rand.Rand, lease *held) error {
	if err := pause(ctx, upTo(dice, 10*time.Second)); err != nil {
		return err
	}
	c.end(lease)
	_ = c.vault.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: lease.leaseID, Sync: dice.IntN(2) == 0})
	return nil
}

// deleteToken goes past the lease.
func (c *crowd) deleteToken(ctx context.Context, dice *rand.Rand, lease *held) error {
	if err := pause(ctx, upTo(dice, 10*time.Second)); err != nil {
		return err
	}
	c.end(lease)
	_, _ = c.vault.Logical().DeleteWithContext(ctx, path.Join(c.mount, "tokens", lease.reference))
	return nil
}

// renewedWithin is how long a lease lives that is to be renewed.
const renewedWithin = time.Minute

// renew asks until the lease lives for an hour. Where that comes too late, the lease runs out.
func (c *crowd) renew(ctx context.Context, dice *rand.Rand, lease *held) error {
	for end := time.Now().Add(renewedWithin); time.Now().Before(end); {
		if err := pause(ctx, upTo(dice, 10*time.Second)); err != nil {
			return err
		}
		if _, err := c.vault.Sys().RenewWithContext(ctx, lease.leaseID, int(time.Hour.Seconds())); err == nil {
			return nil
		}
	}
	c.end(lease)
	return nil
}

// sorted returns the leases that are kept and those that end or have ended.
func (c *crowd) sorted() (kept, ending []*held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, lease := range c.leases {
		if lease.ends {
			ending = append(ending, lease)
		} else {
			kept = append(kept, lease)
		}
	}
	return kept, ending
}
