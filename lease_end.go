// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// leaseEnd is the moment that a lease must not go beyond; zero for none.
type leaseEnd struct {
	at time.Time
	// byKSeF says that KSeF ends the token then; otherwise tokens_accepted_until does.
	byKSeF bool
}

// endOf is the earlier of what config names and what KSeF has said of the token.
func endOf(acceptedUntil, validUntil time.Time) leaseEnd {
	if acceptedUntil.IsZero() || (!validUntil.IsZero() && validUntil.Before(acceptedUntil)) {
		return leaseEnd{validUntil, true}
	}
	return leaseEnd{acceptedUntil, false}
}

func (e leaseEnd) String() string {
	if e.byKSeF {
		return "KSeF ends the token at " + e.at.Format(time.RFC3339)
	}
	return fieldTokensUntil + " of config is " + e.at.Format(time.RFC3339)
}

// capped is the one warning of a lease that the end makes shorter.
func (e leaseEnd) capped(ttl time.Duration) string {
	return fmt.Sprintf("The lease was capped to %s: %s, and no lease goes beyond that.", shortDuration(ttl), e)
}

// renewal is what Vault computes a lease's new end from.
type renewal struct {
	ttl, maxTTL time.Duration
	// granted is what Vault comes to, warning what it does not say by itself.
	granted time.Duration
	warning string
}

// renewal computes a lease's new end as Vault does with what is answered here
// (framework.CalculateTTL, called by Renew in vault/expiration.go). Vault adds its own warning
// where max_ttl caps what was asked for; it cannot know of another end.
func (b *backend) renewal(secret *logical.Secret, ttl, maxTTL time.Duration, end leaseEnd) (renewal, error) {
	granted, _, err := framework.CalculateTTL(b.System(), secret.Increment, ttl, 0, maxTTL, 0, secret.IssueTime)
	if err != nil {
		return renewal{}, fmt.Errorf("the lease cannot be renewed: %w", err)
	}
	answer := renewal{ttl: ttl, maxTTL: maxTTL, granted: granted}
	if end.at.IsZero() {
		return answer, nil
	}
	left := ledger.LeaseLeft(end.at, time.Now())
	if left < time.Second {
		return renewal{}, end.refuseRenewal()
	}
	// Vault counts from the whole second in which the lease was issued.
	if longest := ledger.LeaseLeft(end.at, secret.IssueTime.Truncate(time.Second)); maxTTL == 0 || longest < maxTTL {
		answer.maxTTL = longest
	}
	if left < granted {
		answer.ttl, answer.granted, answer.warning = left, left, end.capped(left)
	}
	return answer, nil
}

func (e leaseEnd) refuseRenewal() error {
	if e.byKSeF {
		return fmt.Errorf("the lease cannot be renewed: %s. It ends at its time; ask for another token", e)
	}
	return &client.InputError{
		Field: fieldTokensUntil, Fault: "is " + e.at.Format(time.RFC3339) + ", so that the lease cannot be renewed and ends at its time",
		Remedy: useInstead,
	}
}
