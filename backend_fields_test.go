// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestBadFields(t *testing.T) {
	t.Run("kinds", testBadFieldsKinds)
	t.Run("names_are_not_repeated", testBadFieldsNamesAreNotRepeated)
	t.Run("unknown", testBadFieldsUnknown)
	t.Run("list_as_json", testBadFieldsListAsJSON)
}

func testBadFieldsKinds(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		_, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		const password = "canary-0123456789-abcdef"
		m.Remember(password)
		sent := m.AllRequests()
		seen := map[*framework.Path]bool{}
		for _, name := range concretePaths() {
			path := m.Route(name)
			require.NotNil(t, path, name)
			seen[path] = true
			for field, schema := range path.Fields {
				for operation := range path.Operations {
					if operation == logical.CreateOperation || operation == logical.ListOperation {
						continue // m.request finds out whether an update creates
					}
					for what, value := range hostileValues(key, password, schema.Type) {
						if field == "private_key" && what == "key" {
							continue
						}
						response, err := m.Request(operation, name, map[string]any{field: value})
						about := fmt.Sprint(operation, " ", name, " ", field, ": ", what)
						require.NoError(t, err, about)
						require.True(t, response != nil && response.IsError(), about)
						text := response.Error().Error()
						require.True(t, strings.HasPrefix(text, field+": "), "%s: %s", about, text)
						requireNoPartOf(t, text, key, password)
					}
				}
			}
		}
		for _, path := range ksef.Paths(m.Backend) {
			require.True(t, seen[path] || len(path.Fields) == 0, "%s is not tried", path.Pattern)
		}
		require.Equal(t, sent, m.AllRequests(), "nothing is sent")
	})
}

// concretePaths has a request path for each pattern with fields.
func concretePaths() []string {
	return []string{
		"config", "config/rotate-root", "login/begin", "login/complete", "roles/invoices", "creds/invoices", "creds/invoices/5265877635",
		"static-roles/erp", "static-roles/erp/import", "static-creds/erp", "static-creds/erp/access-token", "rotate-role/erp",
		"rotate-access/invoices", "rotate-access/invoices/5265877635",
		"tokens", "tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E", "tidy", "tidy/former",
	}
}

// hostileValues are invalid for a kind of field, and hold secrets.
func hostileValues(key, password string, kind framework.FieldType) map[string]any {
	values := map[string]any{
		"key": key, "keys": []any{key, key}, "key in an object": map[string]any{"a": key}, "key in a list in a list": []any{[]any{key}},
		"object": map[string]any{password: password}, "list of objects": []any{map[string]any{password: password}},
	}
	switch kind {
	case framework.TypeCommaStringSlice:
	case framework.TypeString:
		values["list"], values["list of one"] = []any{password, password}, []any{password}
	default:
		values["text"], values["list"] = password, []any{password, password}
		values["list of one"], values["number that is none"] = []any{password}, json.Number(password)
	}
	return values
}

func requireNoPartOf(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		for line := range strings.Lines(secret) {
			require.NotContains(t, text, strings.TrimSpace(line))
		}
	}
}

func testBadFieldsNamesAreNotRepeated(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		_, key := m.NewCertificate(simulator.CertificateOptions{NIP: enginetest.NIP})
		for _, name := range []string{key, strings.TrimSpace(strings.Split(key, "\n")[1])} {
			text := m.Refused(m.Write("config", map[string]any{name: "x"}))
			require.Contains(t, text, "a field: is not a field of this path; use ")
			requireNoPartOf(t, text, key)
		}
	})
}

func testBadFieldsUnknown(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		text := m.Refused(m.Write("config", map[string]any{"npi": enginetest.NIP}))
		require.Contains(t, text, "npi: is not a field of this path; use activation_timeout, ")
		require.Contains(t, text, ", nip, ")
		for _, ignored := range []string{"certificate_days_left", "session_until", "signer_name", "tokens_notice"} {
			require.NotContains(t, text, ignored)
		}
	})
}

// testBadFieldsListAsJSON gives a list as a shell passes permissions='["InvoiceRead"]'.
func testBadFieldsListAsJSON(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		for _, text := range []string{`["InvoiceRead"]`, ` ["InvoiceRead","InvoiceWrite"]`, `[]`} {
			require.Equal(t, "permissions: looks like JSON and was given as one text; give permissions=InvoiceRead,InvoiceWrite, "+
				`or JSON as the body of the request: vault write <path> - <<<'{"permissions": ["InvoiceRead", "InvoiceWrite"]}'`,
				m.Refused(m.Write("roles/invoices", map[string]any{"permissions": text})), text)
		}
		require.Contains(t, m.Refused(m.Write("config", map[string]any{"allowed_contexts": `["*"]`})), "give allowed_contexts=a,b, or JSON")
		for _, list := range []any{"InvoiceRead,InvoiceWrite", []any{"InvoiceRead", "InvoiceWrite"}} {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": list}))
			require.Equal(t, []string{"InvoiceRead", "InvoiceWrite"}, m.Must(m.Read("roles/invoices", nil)).Data["permissions"])
		}
	})
}

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
