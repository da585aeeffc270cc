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
	changed := whatChanges(current, next)
	if changed == "" {
		return func() {}, "", nil
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

// whatChanges names the field that would strand tokens, or ""; subject stands
// for a signer whom KSeF may not let revoke what another has made.
func whatChanges(current, next *config) string {
	switch {
	case current == nil:
		return ""
	case next == nil:
		return fieldForce
	case next.URL != current.URL:
		return "url"
	case next.Context.NIP() != current.Context.NIP():
		return "nip"
	}
	before, beforeErr := current.credential()
	after, afterErr := next.credential()
	if beforeErr != nil || afterErr != nil || author(before) == author(after) {
		return ""
	}
	return fieldSubject
}

const (
	fieldForce   = "force"
	fieldSubject = "certificate"
)

func judgeChange(changed, left string, current *config, force bool) (warning string, err error) {
	switch {
	case changed == fieldSubject:
		return "The signer is another than before. It can revoke " + left + " only if it holds CredentialsManage in their context.", nil
	case force:
		return "Left behind: " + left + ". The engine cannot revoke them unless config leads back to " + current.URL + ".", nil
	}
	return "", &client.InputError{
		Field: changed, Fault: "would leave " + left + ", which could then no longer be revoked",
		Remedy: "end their leases first (vault lease revoke -prefix), or give force=true",
	}
}

func leftBehind(open ledger.Open) string {
	return fmt.Sprintf("%d live tokens, %d being revoked and %d requests with an unknown outcome",
		open.Live, open.Revoking+open.Unreadable, open.Issuing)
}
