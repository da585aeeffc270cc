// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
)

// guardConfig refuses to strand tokens: while some are open, the API may not
// change and the configuration may not go, unless forced. next is nil for a
// deletion. The text is a warning of what a forced change leaves behind.
func (b *backend) guardConfig(ctx context.Context, current, next *config, force bool) (string, error) {
	if current == nil || (next != nil && next.URL == current.URL) {
		return "", nil
	}
	open, err := b.ledger.CountOpen(ctx)
	if err != nil || !open.Any() {
		return "", err
	}
	left := leftBehind(open)
	if force {
		return "Left behind: " + left + ". The engine cannot revoke them unless config leads back to " + current.URL + ".", nil
	}
	field := "url"
	if next == nil {
		field = "force"
	}
	return "", &client.InputError{
		Field: field, Fault: "would leave " + left + ", which could then no longer be revoked",
		Remedy: "end their leases first (vault lease revoke -prefix), or give force=true",
	}
}

func leftBehind(open ledger.Open) string {
	return fmt.Sprintf("%d live tokens, %d being revoked and %d requests with an unknown outcome at this API",
		open.Live, open.Revoking, open.Issuing)
}
