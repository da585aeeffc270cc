// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package leases computes how long a token's lease may be: by the mount, the role, KSeF's own end
// of the token, and the end of KSeF tokens that config names.
package leases

import (
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// End is the moment that a lease must not go beyond; zero for none.
type End struct {
	At time.Time
	// ByKSeF is set if KSeF ends the token then; otherwise config does.
	ByKSeF bool
}

// EndOf returns the earlier of the end that config names and the one that KSeF has reported.
func EndOf(acceptedUntil, validUntil time.Time) End {
	if acceptedUntil.IsZero() || (!validUntil.IsZero() && validUntil.Before(acceptedUntil)) {
		return End{validUntil, true}
	}
	return End{acceptedUntil, false}
}

// String states the end and its cause.
func (e End) String() string {
	if e.ByKSeF {
		return "KSeF ends the token at " + e.At.Format(time.RFC3339)
	}
	return FieldUntil + " of config is " + e.At.Format(time.RFC3339)
}

// Capped is the warning of a lease that the end has shortened to ttl.
func (e End) Capped(ttl time.Duration) string {
	return fmt.Sprintf("The lease was capped to %s: %s, and no lease goes beyond that.", shortDuration(ttl), e)
}

// Renewal is what Vault computes a lease's new end from.
type Renewal struct {
	TTL, MaxTTL time.Duration
	// Granted is what Vault computes, Warning what it does not say by itself.
	Granted time.Duration
	Warning string
}

// Renew computes a lease's new end as Vault does with the returned values (framework.CalculateTTL,
// called by Renew in vault/expiration.go). Vault adds its own warning where max_ttl caps the lease;
// it knows of no other end.
func Renew(system logical.SystemView, secret *logical.Secret, ttl, maxTTL time.Duration, end End) (Renewal, error) {
	granted, _, err := framework.CalculateTTL(system, secret.Increment, ttl, 0, maxTTL, 0, secret.IssueTime)
	if err != nil {
		return Renewal{}, fmt.Errorf("the lease cannot be renewed: %w", err)
	}
	renewal := Renewal{TTL: ttl, MaxTTL: maxTTL, Granted: granted}
	if end.At.IsZero() {
		return renewal, nil
	}
	left := ledger.LeaseLeft(end.At, time.Now())
	if left < time.Second {
		return Renewal{}, end.refuseRenewal()
	}
	// Vault counts from the whole second in which the lease was issued.
	if longest := ledger.LeaseLeft(end.At, secret.IssueTime.Truncate(time.Second)); maxTTL == 0 || longest < maxTTL {
		renewal.MaxTTL = longest
	}
	if left < granted {
		renewal.TTL, renewal.Granted, renewal.Warning = left, left, end.Capped(left)
	}
	return renewal, nil
}

func (e End) refuseRenewal() error {
	if e.ByKSeF {
		return fmt.Errorf("the lease cannot be renewed: %s. It ends at its time; ask for another token", e)
	}
	return &client.InputError{
		Field: FieldUntil, Fault: "is " + e.At.Format(time.RFC3339) + ", so that the lease cannot be renewed and ends at its time",
		Remedy: useInstead,
	}
}
