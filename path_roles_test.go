// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestRoleWrittenAndRead(t *testing.T) {
	order := []string{"InvoiceWrite", "CredentialsRead", "InvoiceRead"}
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": append(order, "InvoiceWrite"), "internal_id": enginetest.UnitID}))
		require.Equal(t, order, m.Must(m.Read("roles/invoices", nil)).Data["permissions"])
		issued := m.Must(m.Read("creds/invoices", nil))
		require.Equal(t, order, issued.Data["permissions"])
		require.Equal(t, order, m.KSeF.State().Tokens[0].RequestedPermissions)
		require.Equal(t, enginetest.UnitID, m.KSeF.State().Tokens[0].ContextIdentifier.Value)
		issued = m.Must(m.Write("tokens", map[string]any{"permissions": order, "description": "Report"}))
		require.Equal(t, order, issued.Data["permissions"])

		m.Must(m.Write("roles/invoices", map[string]any{"internal_id": nil, "description": "", "ttl": "", "max_ttl": nil}))
		require.Equal(t, map[string]any{
			"permissions": order, "description": "Vault role {{.RoleName}}", "ttl": int64(0), "max_ttl": int64(0),
			"allowed_contexts": []string{}, "credential_type": "token", "login": "token", "full_rights": false, "leased": false,
			"token_rotation_period": int64(2592000), "allowed_ips": []string{},
			"max_live": 0, "max_live_per_entity": 0, "max_per_hour": 0,
		}, m.Must(m.Read("roles/invoices", nil)).Data)
		reference := m.Must(m.Read("creds/invoices", nil)).Data["reference_number"]
		for _, token := range m.KSeF.State().Tokens {
			if token.ReferenceNumber == reference {
				require.Equal(t, enginetest.NIP, token.ContextIdentifier.Value, "config's context")
			}
		}
		for _, unset := range []any{nil, "", []any{}} {
			require.Contains(t, m.Refused(m.Write("roles/invoices", map[string]any{"permissions": unset})), "permissions: is empty")
		}
	})
}

// forbiddenTemplates are some of those that internal/description refuses.
func forbiddenTemplates() map[string]string {
	return map[string]string{
		"range":            `{{range 10}}ab{{end}}`,
		"unknown value":    `{{.Unknown}}abcde`,
		"unknown function": `{{.RoleName | shout}}abcde`,
	}
}

func TestTemplate(t *testing.T) {
	t.Run("refused on a role", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for name, text := range forbiddenTemplates() {
				refusal := m.Refused(m.Write("roles/bad", map[string]any{"permissions": "InvoiceRead", "description": text}))
				require.Contains(t, refusal, "description: ", name)
				require.Contains(t, refusal, "{{.DisplayName}}, {{.EntityID}}, {{.MountPoint}}, {{.RoleName}}", name)
				require.Nil(t, m.Must(m.Read("roles/bad", nil)), name)
			}
		})
	})
	t.Run("refused in certificate_name", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for _, path := range []string{"config", "config/rotate-root"} {
				for name, text := range forbiddenTemplates() {
					text = strings.ReplaceAll(text, "RoleName", "NIP")
					refusal := m.Refused(m.Write(path, map[string]any{"certificate_name": text}))
					require.Contains(t, refusal, "certificate_name: ", name)
					require.Contains(t, refusal, "{{.NIP}}", name)
				}
			}
			require.Zero(t, m.Requests("POST /certificates/enrollments"))
		})
	})
	t.Run("filled in", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for text, filled := range map[string]string{
				"plain text":                                     "plain text",
				"{{.RoleName}} at {{.MountPoint}}":               "invoices at ksef/",
				"  {{- .RoleName -}}  {{/* nothing */}}":         "invoices",
				"{{.DisplayName | truncate 7 | uppercase}}":      "TOKEN-A",
				"{{truncate 7 .DisplayName}}":                    "token-a",
				"{{lowercase .DisplayName | truncate_sha256 9}}": "token-app",
				"{{.DisplayName | sha256 | truncate_sha256 9}}":  "9d7d530ea",
				"{{.RoleName}}{{.EntityID}}":                     "invoices",
			} {
				m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "description": text}))
				issued := m.Must(m.Read("creds/invoices", nil))
				require.Equal(t, filled, strings.Split(issued.Data["description"].(string), " [vault:")[0], text)
			}
		})
	})
	t.Run("stored before it was forbidden", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/old", map[string]any{"permissions": "InvoiceRead"}))
			stored := m.Stored("roles/old")
			changed := strings.Replace(stored, `"Vault role {{.RoleName}}"`, `"{{range 1000}}{{end}}abcde"`, 1)
			require.NotEqual(t, stored, changed)
			m.Put("roles/old", []byte(changed))
			sent := m.AllRequests()
			refusal := m.Refused(m.Read("creds/old", nil))
			require.Contains(t, refusal, "description: ")
			require.Contains(t, refusal, "write the role old again")
			require.Equal(t, sent, m.AllRequests())
			m.Must(m.Write("roles/old", map[string]any{"description": "{{.RoleName}} again"}))
			m.Must(m.Read("creds/old", nil))
		})
	})
}
