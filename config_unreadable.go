// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
)

// deleteUnreadableConfig deletes a configuration that cannot be read, where that is agreed to: what
// it leads to, and so which tokens would be left behind, is unknown. left says what a rotation in
// progress has left in KSeF. The caller has the connection's turn and holds the rotation.
func (b *backend) deleteUnreadableConfig(ctx context.Context, storage logical.Storage, unreadable *unreadableConfigError, forced consents) (left string, err error) {
	if !forced.to(consentTokens) {
		return "", &client.InputError{
			Field: configKey, Fault: fmt.Sprintf("cannot be read (%v): which tokens its deletion would leave behind is not known", unreadable.err),
			Remedy: "write it anew with all its fields, or " + consentTokens.remedy(),
		}
	}
	abandon, err := b.guardRotation(ctx, nil, nil, forced.to(consentRotation))
	if err != nil {
		return "", err
	}
	if abandon {
		if left, err = b.rotation.Abandon(ctx); err != nil {
			return "", err
		}
	}
	if err := storage.Delete(ctx, configKey); err != nil {
		return "", fmt.Errorf("deleting the configuration: %w", err)
	}
	b.connection.replace(nil)
	return left, nil
}
