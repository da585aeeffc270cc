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

// workload issues leases, and renews, revokes or leaves them. It records Vault's responses.
type workload struct {
	vault *server
	mount string

	mu     sync.Mutex
	leases map[string]*issuedLease
	// responses counts the responses to requests for a token by HTTP status; 0 is none. exhausted
	// counts those that the engine itself refused, since KSeF's limits left no room soon.
	responses map[int]int
	exhausted int
}

// issuedLease is a lease that was received.
type issuedLease struct {
	leaseID, reference string
	// ending is set once the end was requested, or the lease may expire.
	ending bool
}

func newWorkload(vault *server, mount string) *workload {
	return &workload{vault: vault, mount: mount, leases: make(map[string]*issuedLease), responses: make(map[int]int)}
}

// run issues a token, retrying until it succeeds, and then treats its lease in one of several ways.
// Failed requests are expected; only the end of ctx is an error.
func (c *workload) run(ctx context.Context, dice *rand.Rand) error {
	fates := []struct {
		ttl  time.Duration
		live func(context.Context, *rand.Rand, *issuedLease) error
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

func (c *workload) issue(ctx context.Context, dice *rand.Rand, ttl time.Duration) (*issuedLease, error) {
	for {
		answer, err := c.vault.Logical().WriteWithContext(ctx, c.mount+"/creds/invoices", map[string]any{"ttl": ttl.String()})
		c.count(err)
		if err == nil {
			lease := &issuedLease{leaseID: answer.LeaseID, reference: answer.Data["reference_number"].(string)}
			c.mu.Lock()
			c.leases[lease.leaseID] = lease
			c.mu.Unlock()
			return lease, nil
		}
		if err := pause(ctx, upTo(dice, 4*time.Second)); err != nil {
			return nil, fmt.Errorf("no token was issued: %w", err)
		}
	}
}

func (c *workload) count(err error) {
	status := statusOf(err)
	if err == nil {
		status = http.StatusOK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.responses[status]++
	if status == http.StatusTooManyRequests && strings.Contains(err.Error(), "next slot at") {
		c.exhausted++
	}
}

func (c *workload) keep(context.Context, *rand.Rand, *issuedLease) error { return nil }

func (c *workload) letRunOut(_ context.Context, _ *rand.Rand, lease *issuedLease) error {
	c.end(lease)
	return nil
}

func (c *workload) end(lease *issuedLease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lease.ending = true
}

// revoke sends one request and ignores the response.
func (c *workload) revoke(ctx context.Context, dice *rand.Rand, lease *issuedLease) error {
	if err := pause(ctx, upTo(dice, 10*time.Second)); err != nil {
		return err
	}
	c.end(lease)
	_ = c.vault.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: lease.leaseID, Sync: dice.IntN(2) == 0})
	return nil
}

// deleteToken bypasses the lease.
func (c *workload) deleteToken(ctx context.Context, dice *rand.Rand, lease *issuedLease) error {
	if err := pause(ctx, upTo(dice, 10*time.Second)); err != nil {
		return err
	}
	c.end(lease)
	_, _ = c.vault.Logical().DeleteWithContext(ctx, path.Join(c.mount, "tokens", lease.reference))
	return nil
}

// renewedWithin is the TTL of a lease that is to be renewed.
const renewedWithin = time.Minute

// renew retries until the lease lives for an hour. If that comes too late, the lease expires.
func (c *workload) renew(ctx context.Context, dice *rand.Rand, lease *issuedLease) error {
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

// byFate returns the leases to keep, and those that end or have ended.
func (c *workload) byFate() (kept, ending []*issuedLease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, lease := range c.leases {
		if lease.ending {
			ending = append(ending, lease)
		} else {
			kept = append(kept, lease)
		}
	}
	return kept, ending
}
