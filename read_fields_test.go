// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestReadFields(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		const value = "canary-0123456789-abcdef"
		m.Remember(value)
		secretName := strings.Repeat("MIGHAgEAMBMGByqGSM49", 3)
		for name, test := range map[string]struct {
			operation logical.Operation
			path      string
			data      map[string]any
			warnings  []string
		}{
			"parameter of a client": {
				logical.ReadOperation, "creds/invoices", map[string]any{"prefix": value},
				[]string{"prefix: is not a field of this path, and was ignored"},
			},
			"name that may be a value": {
				logical.ReadOperation, "creds/invoices", map[string]any{secretName: "", secretName + "=": ""},
				[]string{"a field: is not a field of this path, and was ignored"},
			},
			"path without fields": {
				logical.ReadOperation, "status", map[string]any{"verbose": value},
				[]string{"verbose: is not a field of this path, and was ignored"},
			},
			"several": {
				logical.ReadOperation, "roles/invoices", map[string]any{"b": value, "a": value},
				[]string{
					"a: is not a field of this path, and was ignored",
					"b: is not a field of this path, and was ignored",
				},
			},
			"list": {
				logical.ListOperation, "roles/", map[string]any{"limit": value},
				[]string{"limit: is not a field of this path, and was ignored"},
			},
			"field of a config write": {
				logical.ReadOperation, "config", map[string]any{"nip": enginetest.NIP},
				[]string{"nip: means nothing in a read, and was ignored"},
			},
			"field of a role write": {
				logical.ReadOperation, "roles/invoices", map[string]any{"ttl": "1h"},
				[]string{"ttl: means nothing in a read, and was ignored"},
			},
			"fields of a token write": {
				logical.ReadOperation, "tokens", map[string]any{"ttl": "1h", "permissions": "InvoiceRead", "status": "Active"},
				[]string{"permissions: means nothing in a read, and was ignored", "ttl: means nothing in a read, and was ignored"},
			},
			"field of a token query": {
				logical.ListOperation, "tokens/", map[string]any{"status": "Active"},
				[]string{"status: means nothing in a list, and was ignored"},
			},
			"known fields": {logical.ReadOperation, "creds/invoices", map[string]any{"ttl": "30m"}, nil},
		} {
			response := m.Must(m.Request(test.operation, test.path, test.data))
			require.NotEmpty(t, response.Data, name)
			require.Equal(t, test.warnings, response.Warnings, name)
		}
	})
}

func TestReadFieldsKeepTheAnswer(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		require.Nil(t, m.Must(m.Read("roles/missing", map[string]any{"prefix": "x"})), "what is not there stays a 404")
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		response := m.Must(m.Read("creds/invoices", map[string]any{"prefix": "ksef.", "ttl": "30m"}))
		require.NotEmpty(t, response.Data["token"])
		require.Equal(t, "30m0s", response.Secret.TTL.String(), "the fields that are known count")
		require.Contains(t, m.Refused(m.Read("creds/invoices", map[string]any{"prefix": "ksef.", "ttl": "soon"})), "ttl: is not a duration")
	})
}

// A write or delete with a field that is not known changes nothing.
func TestReadFieldsDoNotForgiveWrites(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		for path, operation := range map[string]logical.Operation{
			"creds/invoices": logical.UpdateOperation, "config": logical.DeleteOperation, "roles/invoices": logical.DeleteOperation,
		} {
			require.Contains(t, m.Refused(m.Request(operation, path, map[string]any{"forse": true})), "forse: is not a field of this path; use ")
		}
		require.NotNil(t, m.Must(m.Read("config", nil)))
	})
}

func TestUnsupportedOperation(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		for path, operation := range map[string]logical.Operation{
			"status": logical.UpdateOperation, "status/": logical.DeleteOperation, "creds/invoices": logical.DeleteOperation,
			"tidy": logical.ReadOperation, "roles/": logical.UpdateOperation, "tokens": logical.DeleteOperation,
		} {
			for _, data := range []map[string]any{nil, {"a": "b"}, {"nip": []any{"x"}}} {
				_, err := m.Request(operation, strings.TrimSuffix(path, "/"), data)
				require.ErrorIs(t, err, logical.ErrUnsupportedOperation, "%s %s %v", operation, path, data)
			}
		}
	})
}
