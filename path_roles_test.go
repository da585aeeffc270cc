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
