// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package jsonentry_test

import (
	"testing"

	"vault-plugin-secrets-ksef/internal/jsonentry"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestPut(t *testing.T) {
	var storage logical.InmemStorage
	require.NoError(t, jsonentry.Put(t.Context(), &storage, "roles/a", map[string]int{"ttl": 1}, "the role a"))
	stored, err := storage.Get(t.Context(), "roles/a")
	require.NoError(t, err)
	require.JSONEq(t, `{"ttl": 1}`, string(stored.Value))

	require.ErrorContains(t, jsonentry.Put(t.Context(), &storage, "roles/a", func() {}, "the role a"), "encoding the role a: ")
	storage.Underlying().FailPut(true)
	require.ErrorContains(t, jsonentry.Put(t.Context(), &storage, "roles/a", 1, "the role a"), "storing the role a: ")
}
