// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/accesstoken"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/unleased"
)

// holderSpec returns what the token of a holder must be, nil where its role is gone or no longer
// wants one.
func (b *backend) holderSpec(ctx context.Context, key unleased.Key) (*unleased.Spec, error) {
	b.admitIssue()
	current, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	if key.Kind == ledger.HolderStatic {
		stored, err := b.readStaticRole(ctx, key.Role)
		if err != nil || stored == nil {
			return nil, err
		}
		return b.staticSpec(current.config, stored), nil
	}
	stored, err := b.readRole(ctx, b.storage, key.Role)
	if err != nil || stored == nil || !stored.handsOutAccess() || stored.byCertificate() {
		return nil, err
	}
	if _, err := stored.taxpayer(key.Role, key.Taxpayer.Value, current.config); err != nil {
		return nil, nil //nolint:nilerr // the role or config no longer allows the taxpayer
	}
	return b.accessSpec(current.config, key, stored), nil
}

func (b *backend) staticSpec(of *config, stored *staticRole) *unleased.Spec {
	return &unleased.Spec{
		Request: b.holderRequest(func(of *config) ledger.IssueRequest {
			return ledger.IssueRequest{
				Target:      ledger.Target{API: of.URL, Context: stored.taxpayer(of)},
				Permissions: stored.Permissions, Description: stored.Description,
			}
		}),
		Fingerprint: stored.fingerprint(of),
		Period:      stored.RotationPeriod, Schedule: stored.RotationSchedule, Window: stored.RotationWindow,
		Grace: stored.GracePeriod, Automatic: !stored.DisableRotation, Until: of.TokensAcceptedUntil,
	}
}

// accessSpec is for the token behind access tokens. Its description names the role and no program:
// every reader's access tokens come from it.
func (b *backend) accessSpec(of *config, key unleased.Key, stored *role) *unleased.Spec {
	return &unleased.Spec{
		Request: b.holderRequest(func(of *config) ledger.IssueRequest {
			return ledger.IssueRequest{
				Target:      ledger.Target{API: of.URL, Context: key.Taxpayer},
				Permissions: stored.Permissions, Description: "Vault role " + key.Role,
			}
		}),
		Fingerprint: of.URL + " " + strings.Join(stored.Permissions, ","),
		Period:      stored.tokenRotationPeriod(), Spread: true, Automatic: true, Until: of.TokensAcceptedUntil,
	}
}

// holderRequest completes a request from the configuration in force.
func (b *backend) holderRequest(complete func(*config) ledger.IssueRequest) func() (ledger.IssueRequest, error) {
	return func() (ledger.IssueRequest, error) {
		current := b.connection.get()
		if current == nil {
			return ledger.IssueRequest{}, ledger.ErrPaused
		}
		request := complete(current.config)
		request.ActivationTimeout, request.Until = current.config.ActivationTimeout, current.config.TokensAcceptedUntil
		b.openTargets.Add(request.Target)
		return request, nil
	}
}

// accessOf is what of a role its access tokens depend on.
func accessOf(r *role) any {
	if r == nil || !r.handsOutAccess() {
		return nil
	}
	return []any{r.login(), r.Permissions, r.Context, r.AllowedContexts, addressSet(r.AllowedIPs)}
}

// followRole ends what the access tokens of a role are made from, where a write has changed that,
// and after a deletion (next is nil). It goes on where the caller leaves: the role is stored. The
// returned warning says what KSeF has not confirmed yet.
func (b *backend) followRole(ctx context.Context, name string, next *role) (warning string, err error) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	// The tokens go first: a login that begins after this takes none with the permissions of
	// before.
	warning, err = b.followHolders(ctx, name, next)
	if err != nil {
		b.holders.Invalidate() // it finds again what is to be ended, and hands out nothing of before
	}
	return warning, errors.Join(err, b.access.EndRole(ctx, name, false))
}

func (b *backend) followHolders(ctx context.Context, name string, next *role) (warning string, err error) {
	if next != nil && next.handsOutAccess() && !next.byCertificate() {
		return "", b.holders.ApplyRole(ctx, ledger.HolderAccess, name)
	}
	_, err = b.holders.DeleteRole(ctx, ledger.HolderAccess, name)
	return pendingWarning(err)
}

// pendingWarning makes a warning of a revocation that KSeF has not confirmed yet.
func pendingWarning(err error) (string, error) {
	var pending *ledger.PendingError
	if errors.As(err, &pending) {
		return pending.Error(), nil
	}
	return "", err
}

// holderError is the answer to a request for the token of a static role.
func holderError(key accesstoken.Key, of *config, err error) error {
	switch {
	case errors.Is(err, unleased.ErrNoRole) && key.Static:
		return noStaticRole(key.Role)
	case errors.Is(err, unleased.ErrNoRole):
		return noRole(key.Role)
	case errors.Is(err, unleased.ErrEnded):
		return &client.InputError{
			Field: leases.FieldUntil, Fault: "is " + leases.ShowUntil(of.TokensAcceptedUntil) + "; from then on there are no KSeF tokens",
			Remedy: withoutTokens(key),
		}
	}
	return err
}
