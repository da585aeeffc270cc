// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package jsonentry writes storage entries as JSON.
package jsonentry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"
)

// Put stores a value as JSON; what names it in errors.
func Put(ctx context.Context, storage logical.Storage, key string, value any, what string) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", what, err)
	}
	if err := storage.Put(ctx, &logical.StorageEntry{Key: key, Value: encoded}); err != nil {
		return fmt.Errorf("storing %s: %w", what, err)
	}
	return nil
}
