// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package fields has the schemas that paths share, and checks what requests give in them.
package fields

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// Check refuses a write or delete with a field that its path does not have, since a typing error
// must not go unnoticed, and any request with a value of another kind than its field's. For a read
// it returns the fields that its path has, and a warning for each other field. Operations that the
// path does not have are left to the SDK's own error.
func Check(route func(path string) *framework.Path, req *logical.Request) (known map[string]any, warnings []string, err error) {
	if len(req.Data) == 0 {
		return req.Data, nil, nil
	}
	path := route(req.Path)
	if path == nil || path.Operations[req.Operation] == nil {
		return req.Data, nil, nil
	}
	known = req.Data
	if isRead(req.Operation) {
		known, warnings = withoutUnknownFields(path, req.Data)
	}
	for _, field := range slices.Sorted(maps.Keys(known)) {
		if path.Fields[field] == nil {
			return nil, nil, Unknown(field, path.Fields)
		}
	}
	return known, warnings, CheckKinds(path.Fields, known)
}

// CheckKinds refuses values that are not of their field's kind. The SDK does so too, but its errors
// quote the value, which may be a key pasted into the wrong field or given twice, and Vault logs
// them. Errors here state the field and the kind alone.
func CheckKinds(fields map[string]*framework.FieldSchema, given map[string]any) error {
	data := framework.FieldData{Raw: given, Schema: fields}
	for _, field := range slices.Sorted(maps.Keys(given)) {
		if _, _, err := data.GetOkErr(field); err != nil {
			fault, remedy := kindOf(fields[field].Type)
			return &client.InputError{Field: field, Fault: fault, Remedy: remedy}
		}
		if looksLikeJSON(fields[field].Type, given[field]) {
			return jsonInText(field)
		}
		if field != credential.FieldPrivateKey && HasPrivateKey(given[field]) {
			return &client.InputError{Field: field, Fault: "holds a private key", Remedy: "give a private key in private_key of config, and nowhere else"}
		}
	}
	return nil
}

// kindOf returns what is wrong with a value that is not of a kind, and what to give instead.
func kindOf(kind framework.FieldType) (fault, remedy string) {
	switch kind {
	case framework.TypeBool:
		return "is neither true nor false", "give true or false"
	case framework.TypeInt, framework.TypeInt64:
		return "is not a whole number", "give a whole number"
	case framework.TypeDurationSecond, framework.TypeSignedDurationSecond:
		return "is not a duration", "give seconds, or a text such as 30s, 15m or 2h, and nothing negative"
	case framework.TypeCommaStringSlice, framework.TypeStringSlice:
		return "is not a list of texts", "give texts separated by commas, or a list of texts"
	default:
		return "is not one text", "give one text; a field that is given twice becomes a list"
	}
}

// looksLikeJSON reports whether a list was given as one JSON text, which the SDK takes for one
// element.
func looksLikeJSON(kind framework.FieldType, value any) bool {
	text, isText := value.(string)
	return isText && kind == framework.TypeCommaStringSlice && strings.HasPrefix(strings.TrimSpace(text), "[")
}

func jsonInText(field string) error {
	words := []string{"a", "b"}
	if field == "permissions" {
		words = []string{"InvoiceRead", "InvoiceWrite"}
	}
	return &client.InputError{
		Field: field, Fault: "looks like JSON and was given as one text",
		Remedy: fmt.Sprintf(`give %s=%s, or JSON as the body of the request: vault write <path> - <<<'{%q: [%q, %q]}'`, field, strings.Join(words, ","), field, words[0], words[1]),
	}
}

// HasPrivateKey looks for PEM in a value of any type.
func HasPrivateKey(value any) bool {
	if text, is := value.(string); is {
		return strings.Contains(text, "PRIVATE KEY-----") // without a copy of a long one
	}
	return strings.Contains(fmt.Sprint(value), "PRIVATE KEY-----")
}

// fieldName matches what can be the name of a field. Anything else may be a value.
var fieldName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// Unknown refuses a field that a path does not have.
func Unknown(field string, known map[string]*framework.FieldSchema) error {
	remedy := "leave it out"
	if usable := withoutReadOnly(known); len(usable) > 0 {
		remedy = "use " + Names(usable)
	}
	return &client.InputError{Field: Shown(field), Fault: "is not a field of this path", Remedy: remedy}
}

// Shown returns a name that may be shown, since it cannot be a value.
func Shown(name string) string {
	if fieldName.MatchString(name) {
		return name
	}
	return "a field"
}

// isRead reports whether unknown fields are ignored. Programs add parameters of their own to the
// query of a read, while a typing error in a write or delete changes what is stored.
func isRead(operation logical.Operation) bool {
	return operation == logical.ReadOperation || operation == logical.ListOperation
}

// withoutUnknownFields returns the data of a read without unknown fields, and a warning for each of
// these.
func withoutUnknownFields(path *framework.Path, given map[string]any) (known map[string]any, warnings []string) {
	known = maps.Clone(given)
	for _, field := range slices.Sorted(maps.Keys(given)) {
		if path.Fields[field] == nil {
			delete(known, field)
			warnings = append(warnings, Shown(field)+": is not a field of this path, and was ignored")
		}
	}
	// Names that may not be shown look alike.
	return known, slices.Compact(warnings)
}

// Names lists the names of fields.
func Names(fields map[string]*framework.FieldSchema) string {
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// WarnOfUnused makes a read warn of fields that its path has only for other operations. used are
// the fields of the read.
func WarnOfUnused(callback framework.OperationFunc, used ...string) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		response, err := callback(ctx, req, data)
		if err != nil || response == nil || response.IsError() {
			return response, err
		}
		for _, field := range slices.Sorted(maps.Keys(req.Data)) {
			if !slices.Contains(used, field) {
				response.AddWarning(fmt.Sprintf("%s: means nothing in a %s, and was ignored", field, req.Operation))
			}
		}
		return response, nil
	}
}
