// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package description

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// forbiddenTemplates are short enough to be harmless if they were executed.
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
		"unknown value":       `{{.Unknown}}abcde`,
		"unknown function":    `{{.RoleName | shout}}abcde`,
		"not closed":          `{{.RoleName`,
		"longer than allowed": `{{.RoleName}}` + strings.Repeat(`{{/* */}}`, 200),
	}
}

func TestTemplate(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		for name, text := range forbiddenTemplates() {
			err := CheckTemplate(text, "invoices")
			require.ErrorAs(t, err, new(*client.InputError), name)
			require.ErrorContains(t, err, "description: ", name)
			require.ErrorContains(t, err, "{{.DisplayName}}, {{.EntityID}}, {{.MountPoint}}, {{.RoleName}}", name)
		}
	})
	t.Run("cuts no letter in two", func(t *testing.T) {
		values := map[string]string{"DisplayName": "oidc-żółw", "Long": "żółwżółw---"}
		for text, filled := range map[string]string{
			"{{.DisplayName | truncate 6}}":        "oidc-ż",
			"{{.DisplayName | truncate 9}}":        "oidc-żółw",
			"{{.DisplayName | truncate_sha256 9}}": "oidc-żółw",
			"{{.Long | truncate_sha256 9}}":        "ż" + hexSHA256("ółwżółw---")[:hashKept],
		} {
			got, err := FillTemplate("description", text, values)
			require.NoError(t, err)
			require.Equal(t, filled, got, text)
		}
	})
	t.Run("nothing is kept per text", func(t *testing.T) {
		request := &logical.Request{DisplayName: "token-app"}
		before := heap()
		for i := range 20_000 {
			_, err := Parse(fmt.Sprintf("{{.DisplayName}} %d", i)).Fill("invoices", request)
			require.NoError(t, err)
		}
		require.Less(t, heap(), before+4<<20)
	})
}

// heap returns the memory in use after a collection.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// FuzzTemplate checks that a template is either refused as a user's mistake, or filled in with no
// more than its text and values allow.
func FuzzTemplate(f *testing.F) {
	for _, text := range forbiddenTemplates() {
		f.Add(text, "invoices")
	}
	f.Add("{{.RoleName | truncate 7 | uppercase}} {{truncate_sha256 9 .RoleName}} {{- .RoleName | sha256}}", "żółw")
	f.Fuzz(func(t *testing.T, text, name string) {
		filled, err := FillTemplate("description", text, map[string]string{"RoleName": name})
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
