// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// guardConfig refuses to strand tokens: while some are open, the API and the
// owner of the default context may not change and the configuration may not go,
// unless forced. next is nil for a deletion. Until release is called no token is
// issued, so that none slips in. The text is a warning of what is left behind.
func (b *backend) guardConfig(ctx context.Context, current, next *config, force bool) (release func(), warning string, err error) {
	changed, err := b.whatChanges(ctx, current, next)
	if err != nil || changed == "" {
		return func() {}, "", err
	}
	release, err = b.ledger.Hold(ctx)
	if err != nil {
		return nil, "", err
	}
	open, err := b.ledger.CountOpen(ctx)
	if err == nil && open.Any() {
		warning, err = judgeChange(changed, leftBehind(open), current, force)
	}
	if err != nil {
		release()
		return nil, "", err
	}
	return release, warning, nil
}

// whatChanges names the field that would strand tokens, or ""; fieldSubject
// stands for a signer whom KSeF may not let revoke what another has made. It is
// for whoever has the connection's turn.
func (b *backend) whatChanges(ctx context.Context, current, next *config) (string, error) {
	switch {
	case current == nil:
		return "", nil
	case next == nil:
		return fieldForce, nil
	case next.URL != current.URL:
		return "url", nil
	case next.Context.NIP() != current.Context.NIP():
		return "nip", nil
	case next.Certificate == current.Certificate:
		return "", nil
	}
	connected, err := b.connectInTurn(ctx)
	if err != nil {
		return "", nil //nolint:nilerr // what cannot be used strands nothing that it could end
	}
	before, err := connected.subject(ctx, current.Context)
	if err != nil {
		return "", err
	}
	after, err := next.credential()
	if err != nil || before == "" || before == after.Identity.Subject() {
		return "", err
	}
	return fieldSubject, nil
}

const (
	fieldForce   = "force"
	fieldSubject = "certificate"
)

func judgeChange(changed, left string, current *config, force bool) (warning string, err error) {
	switch {
	case changed == fieldSubject:
		return otherSigner(left), nil
	case force:
		return "Left behind: " + left + ". The engine cannot revoke them unless config leads back to " + current.URL + ".", nil
	}
	return "", &client.InputError{
		Field: changed, Fault: "would leave " + left + ", which could then no longer be revoked",
		Remedy: "end their leases first (vault lease revoke -prefix), or give force=true",
	}
}

func otherSigner(left string) string {
	return "The signer is another than before. It can revoke " + left + " only if it holds CredentialsManage in their context."
}

func leftBehind(open ledger.Open) string {
	return fmt.Sprintf("%d live tokens, %d being revoked and %d requests with an unknown outcome",
		open.Live, open.Revoking+open.Unreadable, open.Issuing)
}

// guardRotation refuses to pull the ground from under a rotation that is under
// way, unless forced. abandon says that the rotation must be given up before the
// configuration is stored: whoever forces asks for that. next is nil for a
// deletion. It is for whoever holds the rotation.
func (b *backend) guardRotation(ctx context.Context, current, next *config, force bool) (abandon bool, err error) {
	state, err := b.rotation.State(ctx)
	switch {
	case err != nil:
		return false, err
	case state.Unreadable != nil && !force:
		return false, state.Unreadable
	case state.Unreadable != nil:
		return true, nil
	case state.Step == "":
		return false, nil
	}
	if force || standsOn(state.Subject, current, next) {
		return force, nil
	}
	return false, &client.InputError{
		Field: fieldForce, Fault: "is needed while the rotation to the certificate " + state.Name + " is under way",
		Remedy: "wait until status shows its end, or give force=true, which gives it up and leaves what KSeF has issued for it without use",
	}
}

// standsOn says that a rotation for the subject can go on under the next
// configuration.
func standsOn(subject string, current, next *config) bool {
	if current == nil || next == nil || next.api() != current.api() || next.Context != current.Context {
		return false
	}
	held, err := next.credential()
	return err == nil && (held == nil || held.Identity.Subject() == subject)
}
