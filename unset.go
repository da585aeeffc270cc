// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
)

// withoutUnset returns the fields of a write that have a value, and the names of those that are
// given as null or as an empty text. A write resets these to what they are when never given.
func withoutUnset(data *framework.FieldData) (given *framework.FieldData, unset []string) {
	given = &framework.FieldData{Raw: make(map[string]any, len(data.Raw)), Schema: data.Schema}
	for field, value := range data.Raw {
		if value == nil || value == "" {
			unset = append(unset, field)
			continue
		}
		given.Raw[field] = value
	}
	slices.Sort(unset)
	return given, unset
}

const readOnlyNote = " Read only: a write ignores it."

// withoutReadOnly leaves the fields that mean something to a write.
func withoutReadOnly(fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	usable := maps.Clone(fields)
	maps.DeleteFunc(usable, func(_ string, schema *framework.FieldSchema) bool {
		return strings.HasSuffix(schema.Description, readOnlyNote)
	})
	return usable
}

// readOnly returns the computed fields of an answer as fields of a write, so that a document that
// was read can be written back as it is.
func readOnly(answer map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields := make(map[string]*framework.FieldSchema, len(answer))
	for field, schema := range answer {
		kind := schema.Type
		if kind == framework.TypeTime {
			kind = framework.TypeString // an empty text is no time
		}
		fields[field] = &framework.FieldSchema{Type: kind, Description: schema.Description + readOnlyNote}
	}
	return fields
}
