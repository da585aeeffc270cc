// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// secretTokenType names the leases of this engine.
const secretTokenType = "ksef_token"

func (b *backend) secretToken() *framework.Secret {
	return &framework.Secret{
		Type:   secretTokenType,
		Fields: tokenFields(),
		Renew:  b.tokenRenew,
		Revoke: b.tokenRevoke,
	}
}

// lease is what Vault stores with a lease.
type lease struct {
	Version int `json:"version"`
	ledger.Lease
	TTL    time.Duration `json:"ttl"`
	MaxTTL time.Duration `json:"max_ttl"`
}

const leaseVersion = 1

var errUnknownLease = errors.New("the lease was written by another version of this plugin, which this one cannot read; run that version, or a newer one")

func leaseData(record *ledger.Record, want tokenRequest) lease {
	return lease{Version: leaseVersion, Lease: record.Lease(), TTL: want.ttl, MaxTTL: want.maxTTL}
}

// internal is the lease as Vault stores it: flat, of types that survive JSON. The SDK finds
// tokenRevoke and tokenRenew by its secret_type.
func (l lease) internal() map[string]any {
	return map[string]any{
		"secret_type": secretTokenType,
		"version":     l.Version, "nonce": l.Nonce, "reference_number": l.ReferenceNumber, "api": l.API,
		"context": map[string]any{"type": string(l.Context.Type), "value": l.Context.Value},
		"role":    l.Role, "ttl": int64(l.TTL), "max_ttl": int64(l.MaxTTL),
	}
}

// decodeLease reads what Vault returns, in which numbers and slices have become what JSON makes of
// them.
func decodeLease(secret *logical.Secret) (*lease, error) {
	if secret == nil {
		return nil, errUnknownLease
	}
	encoded, err := json.Marshal(secret.InternalData)
	if err != nil {
		return nil, fmt.Errorf("reading the lease: %w", err)
	}
	var decoded lease
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		return nil, fmt.Errorf("reading the lease: %w", err)
	}
	if decoded.Version != leaseVersion || decoded.ReferenceNumber == "" || decoded.Context.IsZero() {
		return nil, errUnknownLease
	}
	return &decoded, nil
}

// tokenRevoke ends a lease. It succeeds only when KSeF has confirmed that the token is dead; until
// then the ledger goes on by itself.
func (b *backend) tokenRevoke(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, err := decodeLease(req.Secret)
	if err != nil {
		return nil, err
	}
	return nil, b.explainRevocation(ctx, b.ledger.RevokeLease(ctx, stored.Lease))
}

// tokenRenew moves a lease's end, as far as config and KSeF let the token live. Vault answers 400
// with the text of an error that is returned; of an error response it would print the Go value.
func (b *backend) tokenRenew(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	stored, err := decodeLease(req.Secret)
	if err != nil {
		return nil, err
	}
	ttl, maxTTL, err := b.renewalTTLs(ctx, req.Storage, stored)
	if err != nil {
		return nil, err
	}
	acceptedUntil, err := b.tokensUntil(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	var renewed leases.Renewal
	err = b.ledger.Renew(ctx, stored.Lease, func(validUntil time.Time) (end time.Time, err error) {
		renewed, err = leases.Renew(b.System(), req.Secret, ttl, maxTTL, leases.EndOf(acceptedUntil, validUntil))
		return time.Now().Add(renewed.Granted), err
	})
	if err != nil {
		return nil, err
	}
	response := &logical.Response{Secret: req.Secret}
	response.Secret.TTL, response.Secret.MaxTTL = renewed.TTL, renewed.MaxTTL
	fields.AddWarnings(response, renewed.Warning)
	return response, nil
}

// renewalTTLs takes a role's lease as it is now; a role that is gone ends its leases at their time.
func (b *backend) renewalTTLs(ctx context.Context, storage logical.Storage, stored *lease) (ttl, maxTTL time.Duration, err error) {
	if stored.Role == "" {
		return stored.TTL, stored.MaxTTL, nil
	}
	current, err := b.readRole(ctx, storage, stored.Role)
	if err != nil {
		return 0, 0, err
	}
	if current == nil {
		return 0, 0, &client.InputError{
			Field: "role", Fault: fmt.Sprintf("%q no longer exists, so its leases cannot be renewed", stored.Role),
			Remedy: "write the role again, or ask for a token under another",
		}
	}
	if current.handsOutAccess() {
		return 0, 0, &client.InputError{
			Field: fieldCredentialType, Fault: fmt.Sprintf("of %q is %s: the leases of its tokens end at their time", stored.Role, credentialAccessToken),
			Remedy: fmt.Sprintf("read its access token: vault read <mount>/creds/%s", stored.Role),
		}
	}
	return current.TTL, current.MaxTTL, nil
}

// tokensUntil returns the end that the configuration in force names; zero for none, also where
// there is no configuration: leases are renewed all the same.
func (b *backend) tokensUntil(ctx context.Context, storage logical.Storage) (time.Time, error) {
	if current := b.connection.get(); current != nil {
		return current.config.TokensAcceptedUntil, nil
	}
	stored, err := readConfig(ctx, storage)
	var unreadable *unreadableConfigError
	switch {
	case errors.As(err, &unreadable):
		b.onUnreadable(unreadable.entry, unreadable)
		return time.Time{}, nil
	case err != nil || stored == nil:
		return time.Time{}, err
	}
	return stored.TokensAcceptedUntil, nil
}
