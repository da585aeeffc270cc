// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// forbiddenTemplates are short enough to be harmless where they are executed.
func forbiddenTemplates() map[string]string {
	return map[string]string{
		"range":               `{{range 10}}{{end}}abcde`,
		"range with output":   `{{range 10}}ab{{end}}`,
		"if":                  `{{if .RoleName}}abcde{{end}}`,
		"with":                `{{with .RoleName}}abcde{{end}}`,
		"define":              `{{define "x"}}{{end}}abcde`,
		"define itself":       `{{define "template"}}abcde{{end}}`,
		"template":            `{{define "x"}}{{end}}{{template "x"}}abcde`,
		"block":               `{{block "x" .}}abcde{{end}}`,
		"variable":            `{{$x := .RoleName}}{{$x}}abcde`,
		"break":               `{{range 1}}{{break}}{{end}}abcde`,
		"printf":              `{{printf "%9d" 1}}abcde`,
		"call":                `{{call .RoleName}}abcde`,
		"index":               `{{index .RoleName 0}}abcde`,
		"len":                 `{{len .RoleName}}abcde`,
		"and":                 `{{and .RoleName .EntityID}}abcde`,
		"replace":             `{{.RoleName | replace "a" "aaaa"}}abcde`,
		"base64":              `{{.RoleName | base64}}abcde`,
		"random":              `{{random 20}}`,
		"uuid":                `{{uuid}}`,
		"timestamp":           `{{timestamp "2006-01-02"}}`,
		"all values":          `{{.}}abcde`,
		"value of a value":    `{{.RoleName.Length}}abcde`,
		"text as a value":     `{{"abcde"}}`,
		"number as a value":   `{{12345}}`,
		"nested pipeline":     `{{truncate 3 (lowercase .RoleName)}}abcde`,
		"two values":          `{{.RoleName .EntityID}}abcde`,
		"function as value":   `{{truncate lowercase .RoleName}}abcde`,
		"missing length":      `{{.RoleName | truncate}}abcde`,
		"length not positive": `{{.RoleName | truncate 0}}abcde`,
		"length too much":     `{{.RoleName | lowercase 5}}abcde`,
		"short hashed length": `{{.RoleName | truncate_sha256 8}}abcde`,
		"unknown value":       `{{.Nobody}}abcde`,
		"unknown function":    `{{.RoleName | shout}}abcde`,
		"not closed":          `{{.RoleName`,
		"longer than allowed": `{{.RoleName}}` + strings.Repeat(`{{/* */}}`, 200),
	}
}

func TestTemplate(t *testing.T) {
	t.Run("refused on a role", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			for name, text := range forbiddenTemplates() {
				refusal := m.Refused(m.Write("roles/bad", map[string]any{"permissions": "InvoiceRead", "description": text}))
				require.Contains(t, refusal, "description: ", name)
				require.Contains(t, refusal, "{{.DisplayName}}, {{.EntityID}}, {{.MountPoint}}, {{.RoleName}}", name)
				require.Nil(t, m.Must(m.Read("roles/bad", nil)), name)
			}
		})
	})
	t.Run("refused in certificate_name", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
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
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
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
	t.Run("cuts no letter in two", func(t *testing.T) {
		values := map[string]string{"DisplayName": "oidc-żółw", "Long": "żółwżółw---"}
		for text, filled := range map[string]string{
			"{{.DisplayName | truncate 6}}":        "oidc-ż",
			"{{.DisplayName | truncate 9}}":        "oidc-żółw",
			"{{.DisplayName | truncate_sha256 9}}": "oidc-żółw",
			"{{.Long | truncate_sha256 9}}":        "ż" + hexSHA256("ółwżółw---")[:hashKept],
		} {
			got, err := fillTemplate("description", text, values)
			require.NoError(t, err)
			require.Equal(t, filled, got, text)
		}
	})
	t.Run("stored before it was forbidden", func(t *testing.T) {
		WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
			m.Must(m.Write("roles/old", map[string]any{"permissions": "InvoiceRead"}))
			stored, err := m.Backend.readRole(m.Ctx, m.Storage, "old")
			require.NoError(t, err)
			stored.Description = "{{range 1000}}{{end}}abcde"
			require.NoError(t, stored.store(m.Ctx, m.Storage, "old"))
			sent := m.AllRequests()
			refusal := m.Refused(m.Read("creds/old", nil))
			require.Contains(t, refusal, "description: ")
			require.Contains(t, refusal, "write the role old again")
			require.Equal(t, sent, m.AllRequests())
			m.Must(m.Write("roles/old", map[string]any{"description": "{{.RoleName}} again"}))
			m.Must(m.Read("creds/old", nil))
		})
	})
	t.Run("nothing is kept per text", func(t *testing.T) {
		request := &logical.Request{DisplayName: "token-app"}
		before := heap()
		for i := range 20_000 {
			_, err := describe(fmt.Sprintf("{{.DisplayName}} %d", i), "invoices", request)
			require.NoError(t, err)
		}
		require.Less(t, heap(), before+4<<20)
	})
}

// heap is what is in use once all that can be collected has been.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// FuzzTemplate holds that a template is either refused as a user's mistake, or filled in with no
// more than its text and values allow.
func FuzzTemplate(f *testing.F) {
	for _, text := range forbiddenTemplates() {
		f.Add(text, "invoices")
	}
	f.Add("{{.RoleName | truncate 7 | uppercase}} {{truncate_sha256 9 .RoleName}} {{- .RoleName | sha256}}", "żółw")
	f.Fuzz(func(t *testing.T, text, name string) {
		filled, err := fillTemplate("description", text, map[string]string{"RoleName": name})
		if err != nil {
			var mistake *client.InputError
			require.ErrorAs(t, err, &mistake)
			require.Equal(t, "description", mistake.Field)
			return
		}
		require.LessOrEqual(t, len(filled), maxFilled)
		if !strings.Contains(text, "{{") {
			require.Equal(t, text, filled)
		}
		if utf8.ValidString(text) && utf8.ValidString(name) {
			require.True(t, utf8.ValidString(filled))
		}
	})
}
