// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package fields_test

import (
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const secret = "canary-0123456789"

func path() *framework.Path {
	return &framework.Path{
		Fields: map[string]*framework.FieldSchema{
			"name": {Type: framework.TypeString}, "force": {Type: framework.TypeBool}, "count": {Type: framework.TypeInt},
			"ttl": {Type: framework.TypeDurationSecond}, "permissions": {Type: framework.TypeCommaStringSlice},
			"private_key": {Type: framework.TypeString},
			"computed":    {Type: framework.TypeString, Description: "Computed." + fields.ReadOnlyNote},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{}, logical.UpdateOperation: &framework.PathOperation{},
			logical.DeleteOperation: &framework.PathOperation{},
		},
	}
}

func TestCheck(t *testing.T) {
	check := func(operation logical.Operation, data map[string]any) (map[string]any, []string, error) {
		return fields.Check(func(string) *framework.Path { return path() }, &logical.Request{Operation: operation, Data: data})
	}

	t.Run("a read ignores unknown fields with a warning each", func(t *testing.T) {
		known, warnings, err := check(logical.ReadOperation, map[string]any{"name": "a", "limit": 5, secret + "!": 1, secret + "?": 2})
		require.NoError(t, err)
		require.Equal(t, map[string]any{"name": "a"}, known)
		require.Len(t, warnings, 2, "names that may be values look alike")
		require.NotContains(t, strings.Join(warnings, ""), secret)
		require.Contains(t, strings.Join(warnings, ""), "limit: is not a field of this path, and was ignored")
	})
	t.Run("a write or delete refuses unknown fields", func(t *testing.T) {
		for _, operation := range []logical.Operation{logical.UpdateOperation, logical.DeleteOperation} {
			_, _, err := check(operation, map[string]any{"naem": "a"})
			require.ErrorContains(t, err, "naem: is not a field of this path; use count, force, name, permissions, private_key, ttl")
			_, _, err = check(operation, map[string]any{secret + "!": "a"})
			require.ErrorContains(t, err, "a field: is not a field of this path")
			require.NotContains(t, err.Error(), secret)
		}
	})
	t.Run("a path without fields recommends none", func(t *testing.T) {
		require.ErrorContains(t, fields.Unknown("x", nil), "leave it out")
	})
	t.Run("an operation that the path does not have is left to the SDK", func(t *testing.T) {
		_, _, err := check(logical.ListOperation, map[string]any{"naem": "a"})
		require.NoError(t, err)
		_, _, err = fields.Check(func(string) *framework.Path { return nil }, &logical.Request{Operation: logical.ReadOperation, Data: map[string]any{"naem": "a"}})
		require.NoError(t, err)
	})
	t.Run("a value of another kind is refused and not quoted", func(t *testing.T) {
		for field, text := range map[string]string{
			"name": "is not one text", "force": "is neither true nor false", "count": "is not a whole number", "ttl": "is not a duration",
		} {
			value := any(secret)
			if field == "name" {
				value = []any{secret, secret}
			}
			_, _, err := check(logical.UpdateOperation, map[string]any{field: value})
			require.ErrorAs(t, err, new(*client.InputError))
			require.ErrorContains(t, err, field+": "+text)
			require.NotContains(t, err.Error(), secret)
		}
	})
	t.Run("a list given as JSON text is refused", func(t *testing.T) {
		_, _, err := check(logical.UpdateOperation, map[string]any{"permissions": ` ["InvoiceRead"]`})
		require.ErrorContains(t, err, "permissions=InvoiceRead,InvoiceWrite")
	})
	t.Run("a private key belongs in private_key alone", func(t *testing.T) {
		const pem = "-----BEGIN EC PRIVATE KEY-----"
		for _, value := range []any{pem, []string{"x", pem}} {
			_, _, err := check(logical.UpdateOperation, map[string]any{"permissions": value})
			require.ErrorContains(t, err, "permissions: holds a private key")
		}
		_, _, err := check(logical.UpdateOperation, map[string]any{"private_key": pem})
		require.NoError(t, err)
	})
}

func TestWithoutUnset(t *testing.T) {
	given, unset := fields.WithoutUnset(&framework.FieldData{
		Schema: path().Fields, Raw: map[string]any{"name": "", "ttl": nil, "force": false, "count": 0},
	})
	require.Equal(t, []string{"name", "ttl"}, unset)
	require.Equal(t, map[string]any{"force": false, "count": 0}, given.Raw)
}

func TestReadOnly(t *testing.T) {
	made := fields.ReadOnly(map[string]*framework.FieldSchema{"at": {Type: framework.TypeTime, Description: "When."}})
	require.Equal(t, framework.TypeString, made["at"].Type, "an empty text is no time")
	require.Equal(t, "When."+fields.ReadOnlyNote, made["at"].Description)
}

func TestReadName(t *testing.T) {
	read := func(name string) error {
		_, err := fields.ReadName(&framework.FieldData{Schema: path().Fields, Raw: map[string]any{"name": name}}, "name")
		return err
	}
	for _, name := range []string{"a", "_", "7", "a.b", "a-b", "a_b.c-d", strings.Repeat("a", fields.MaxName)} {
		require.NoError(t, read(name), name)
	}
	for _, name := range []string{
		"ADMIN", "admiN", "0..0", "..", "a..b", "-admin", "admin-", ".admin", "admin.", "ad min", "admin ", "a/b", "admin/",
		"ąę", "ad%min", "ad\nmin", "ad\x00min", "", strings.Repeat("a", fields.MaxName+1), "{{.RoleName}}",
	} {
		require.ErrorContains(t, read(name), "name: cannot be a name", "%q", name)
	}
}

func TestReadPermissions(t *testing.T) {
	read := func(given ...string) ([]string, error) {
		schema := map[string]*framework.FieldSchema{"permissions": fields.PermissionsSchema()}
		return fields.ReadPermissions(&framework.FieldData{Schema: schema, Raw: map[string]any{"permissions": given}})
	}
	permissions, err := read("InvoiceWrite", "InvoiceRead", "InvoiceWrite")
	require.NoError(t, err)
	require.Equal(t, []string{"InvoiceWrite", "InvoiceRead"}, permissions)
	_, err = read()
	require.ErrorContains(t, err, "permissions: is empty")
	_, err = read("InvoiceRead", secret)
	require.ErrorContains(t, err, "at place 2")
	require.NotContains(t, err.Error(), secret)
}
