// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/credential"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// checkKinds refuses values that are not of their field's kind. The SDK would do so too, but its
// errors quote the value, which may be a key that was pasted into the wrong field or given twice,
// and Vault logs them. So the answer names the field and the kind alone.
func checkKinds(fields map[string]*framework.FieldSchema, given map[string]any) error {
	data := framework.FieldData{Raw: given, Schema: fields}
	for _, field := range slices.Sorted(maps.Keys(given)) {
		if _, _, err := data.GetOkErr(field); err != nil {
			fault, remedy := kindOf(fields[field].Type)
			return &client.InputError{Field: field, Fault: fault, Remedy: remedy}
		}
		if looksLikeJSON(fields[field].Type, given[field]) {
			return jsonInText(field)
		}
		if field != credential.FieldPrivateKey && holdsPrivateKey(given[field]) {
			return &client.InputError{Field: field, Fault: "holds a private key", Remedy: "give a private key in private_key of config, and nowhere else"}
		}
	}
	return nil
}

// kindOf says what a value of a kind must be, and what to give instead.
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

// looksLikeJSON is true for a list that was given as the text of one, which the SDK takes for the
// name of one element.
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

// holdsPrivateKey looks for PEM in a value, whatever it is made of.
func holdsPrivateKey(value any) bool {
	if text, is := value.(string); is {
		return strings.Contains(text, "PRIVATE KEY-----") // without a copy of a long one
	}
	return strings.Contains(fmt.Sprint(value), "PRIVATE KEY-----")
}

// fieldName is what a field's name looks like: what does not may be a value.
var fieldName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// unknownField answers a field that a path does not have.
func unknownField(field string, known map[string]*framework.FieldSchema) error {
	remedy := "leave it out"
	if usable := withoutReadOnly(known); len(usable) > 0 {
		remedy = "use " + fieldNames(usable)
	}
	return &client.InputError{Field: shownField(field), Fault: "is not a field of this path", Remedy: remedy}
}

func shownField(name string) string {
	if fieldName.MatchString(name) {
		return name
	}
	return "a field"
}

// HandleExistenceCheck finds out whether a request creates something, by its path alone: what the
// request carries is looked at once, by HandleRequest, and can be quoted by no error here.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checked, exists bool, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			b.Logger().Error("an existence check panicked", "path", req.Path, "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
			checked, exists, err = false, false, errors.New("the KSeF secrets engine failed; its log tells where")
		}
	}()
	bare := *req
	bare.Data = nil
	bare.Storage = readable(req.Storage)
	return b.Backend.HandleExistenceCheck(ctx, &bare)
}
