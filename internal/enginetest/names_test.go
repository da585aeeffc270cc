// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/internal/fields"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Must(m.Write("roles/admin", map[string]any{"permissions": "CredentialsManage"}))
		issued := m.Must(m.Read("creds/admin", nil)).Data["reference_number"].(string)
		sent, stored := m.AllRequests(), m.Keys("")
		for _, name := range []string{
			"ADMIN", "Admin", "admiN", "0..0", "..", "a..b", "-admin", "admin-", ".admin", "admin.", "ad min", "admin ", "a/b", "admin/",
			"ąę", "ad%min", "ad\nmin", "ad\x00min", strings.Repeat("a", fields.MaxName+1), "{{.RoleName}}",
		} {
			for path, operations := range map[string][]logical.Operation{
				"roles/": {logical.ReadOperation, logical.UpdateOperation, logical.DeleteOperation},
				"creds/": {logical.ReadOperation, logical.UpdateOperation},
			} {
				for _, operation := range operations {
					var data map[string]any
					if path == "roles/" && operation == logical.UpdateOperation {
						data = map[string]any{"permissions": "InvoiceRead"}
					}
					text := m.Refused(m.Request(operation, path+name, data))
					if path == "creds/" && name == "a/b" {
						require.Contains(t, text, `role: "a" does not exist`, "b is in the place of a taxpayer")
						continue
					}
					require.Contains(t, text, ": cannot be a name; give up to 200 lower case letters", "%s %s%q", operation, path, name)
				}
			}
		}
		for _, number := range []string{strings.ToLower(issued), issued + " ", issued + "/", "..", "a/b"} {
			require.Contains(t, m.Refused(m.Read("tokens/"+number, nil)), "reference_number: is not a KSeF reference number", number)
			require.Contains(t, m.Refused(m.Delete("tokens/"+number)), "reference_number: is not a KSeF reference number", number)
		}
		require.Equal(t, sent, m.AllRequests(), "nothing is sent")
		require.Equal(t, stored, m.Keys(""), "nothing is stored")
	})
	t.Run("lawful", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			for _, name := range []string{"a", "_", "7", "a.b", "a-b", "a_b.c-d", strings.Repeat("a", fields.MaxName)} {
				m.Must(m.Write("roles/"+name, map[string]any{"permissions": "InvoiceRead", "description": "Role of ours"}))
				require.NotNil(t, m.Must(m.Read("roles/"+name, nil)), name)
				m.Must(m.Delete("roles/" + name))
			}
		})
	})
}
