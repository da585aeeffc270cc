// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
)

// deleteUnreadableConfig deletes a configuration that cannot be read, if forced: what it leads to,
// and so what would be left behind, is unknown. The caller has the connection's turn and
// holds the rotation.
func (b *backend) deleteUnreadableConfig(ctx context.Context, storage logical.Storage, unreadable error, force bool) error {
	if !force {
		return &client.InputError{
			Field: fieldForce, Fault: "is needed: " + unreadable.Error(),
			Remedy: "write config anew with all its fields, or delete it with force=true",
		}
	}
	if _, err := b.rotation.Abandon(ctx); err != nil {
		return err
	}
	if err := storage.Delete(ctx, configKey); err != nil {
		return fmt.Errorf("deleting the configuration: %w", err)
	}
	b.connection.replace(nil)
	return nil
}
