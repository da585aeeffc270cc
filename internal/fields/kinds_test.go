// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package fields

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/stretchr/testify/require"
)

// What Vault accepts in other forms than the field's kind is accepted here, too.
func TestCheckKindsLegitimate(t *testing.T) {
	fields := map[string]*framework.FieldSchema{
		"bool": {Type: framework.TypeBool}, "int": {Type: framework.TypeInt}, "duration": {Type: framework.TypeDurationSecond},
		"list": {Type: framework.TypeCommaStringSlice}, "text": {Type: framework.TypeString},
	}
	for field, values := range map[string][]any{
		"bool":     {true, "true", "false", "1", 1, json.Number("0"), "", nil},
		"int":      {20, "20", json.Number("20"), float64(20), "", nil},
		"duration": {30, "30", "30s", "1h30m", json.Number("30"), float64(30), "0", "", "2d", nil},
		"list":     {"a,b", []any{"a", "b"}, []string{"a"}, []any{}, "", nil},
		"text":     {"a", "", json.Number("5265877635"), 5265877635, nil},
	} {
		for _, value := range values {
			require.NoError(t, CheckKinds(fields, map[string]any{field: value}), "%s: %#v", field, value)
		}
	}
}

// FuzzCheckKinds checks that every value is either refused with a text that does not depend on it,
// or can be read without an error.
func FuzzCheckKinds(f *testing.F) {
	for _, seed := range []string{
		`"text"`, `""`, `"30s"`, `30`, `-1`, `1e999`, `true`, `null`, `[]`, `["a","b"]`, `[["a"]]`, `[{"a":1}]`, `{}`, `{"a":{"b":[1]}}`,
		`"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----"`, `[null]`, `"1,2"`, `99999999999999999999`, `"9223372036854775807h"`,
	} {
		f.Add([]byte(seed))
	}
	schema := make(map[string]*framework.FieldSchema)
	for _, kind := range []framework.FieldType{
		framework.TypeBool, framework.TypeInt, framework.TypeInt64, framework.TypeDurationSecond, framework.TypeSignedDurationSecond,
		framework.TypeCommaStringSlice, framework.TypeStringSlice, framework.TypeString,
	} {
		schema[kind.String()] = &framework.FieldSchema{Type: kind}
	}
	schema["private_key"] = &framework.FieldSchema{Type: framework.TypeString}
	f.Fuzz(func(t *testing.T, text []byte) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var value any
		if decoder.Decode(&value) != nil {
			return
		}
		for field, one := range schema {
			given := map[string]any{field: value}
			err := CheckKinds(schema, given)
			if err == nil {
				data := &framework.FieldData{Raw: given, Schema: schema}
				require.NoError(t, data.Validate())
				require.NotPanics(t, func() { data.Get(field) })
				continue
			}
			fault, remedy := kindOf(one.Type)
			require.Contains(t, []string{
				field + ": " + fault + "; " + remedy, jsonInText(field).Error(),
				field + ": holds a private key; give a private key in private_key of config, and nowhere else",
			}, err.Error())
		}
	})
}
