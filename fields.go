// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// withContextFields adds the two fields that name a context.
func withContextFields(fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields["nip"] = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Taxpayer in whose context tokens live, ten digits. Give this or internal_id.",
	}
	fields["internal_id"] = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Internal unit in whose context tokens live: NIP, dash, five digits. Give this or nip.",
	}
	return fields
}

// withContextDefault is withContextFields for a request, and says what holds where it gives
// neither.
func withContextDefault(otherwise string, fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields = withContextFields(fields)
	for _, field := range []string{"nip", "internal_id"} {
		fields[field].Description += " Default: " + otherwise + "."
	}
	return fields
}

// contextOfConfig is the default context of requests.
const contextOfConfig = "that of config"

// addContext shows a context under the name of its field.
func addContext(answer map[string]any, taxpayer client.ContextIdentifier) {
	switch taxpayer.Type {
	case client.ContextNIP:
		answer["nip"] = taxpayer.Value
	case client.ContextInternalID:
		answer["internal_id"] = taxpayer.Value
	}
}

// permissionsFrom reads the field permissions, in the order given and each once.
func permissionsFrom(data *framework.FieldData) ([]string, error) {
	given := data.Get("permissions").([]string)
	if len(given) == 0 {
		return nil, &client.InputError{Field: "permissions", Fault: "is empty", Remedy: "give one or more of " + strings.Join(client.Permissions(), ", ")}
	}
	known := client.Permissions()
	for i, permission := range given {
		if !slices.Contains(known, permission) {
			return nil, &client.InputError{
				Field: "permissions", Fault: fmt.Sprintf("has at place %d one that KSeF does not know", i+1),
				Remedy: "give one or more of " + strings.Join(known, ", "),
			}
		}
	}
	return distinct(given), nil
}

// distinct keeps the first of equal texts, in their order.
func distinct(texts []string) []string {
	var all []string
	for _, text := range texts {
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// permissionsField is the schema of permissions.
func permissionsField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeCommaStringSlice,
		Description: "What the token may do, in a list: " + strings.Join(client.Permissions(), ", ") + ". Required for a new role and for a token.",
	}
}

// checkFields refuses a write or delete that has a field its path does not know, for a typing error
// in a field's name must not go unnoticed, and any request with a value of another kind than its
// field's. Of a read it returns the fields that its path knows, and a warning for each other. An
// operation that the path does not have is left to the SDK, which says so.
func (b *backend) checkFields(req *logical.Request) (known map[string]any, warnings []string, err error) {
	path := b.Route(req.Path)
	if len(req.Data) == 0 || path == nil || path.Operations[req.Operation] == nil {
		return req.Data, nil, nil
	}
	known = req.Data
	if isRead(req.Operation) {
		known, warnings = withoutUnknownFields(path, req.Data)
	}
	for _, field := range slices.Sorted(maps.Keys(known)) {
		if path.Fields[field] == nil {
			return nil, nil, unknownField(field, path.Fields)
		}
	}
	return known, warnings, checkKinds(path.Fields, known)
}

// The operations of a path. Those that write go to the node that may write.

func readOperation(callback framework.OperationFunc, verb string, answer map[int][]framework.Response) *framework.PathOperation {
	return &framework.PathOperation{
		Callback: callback, Responses: answer,
		DisplayAttrs: &framework.DisplayAttributes{OperationVerb: verb},
	}
}

func forwarded(callback framework.OperationFunc, verb string, answer map[int][]framework.Response) *framework.PathOperation {
	operation := readOperation(callback, verb, answer)
	operation.ForwardPerformanceStandby, operation.ForwardPerformanceSecondary = true, true
	return operation
}

func deleteOperation(callback framework.OperationFunc, verb string) *framework.PathOperation {
	return forwarded(callback, verb, noContent())
}

// noContent is the schema of an operation that answers nothing.
func noContent() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: "Empty body"}}}
}

// noContentOrWarnings is the schema of one that answers with warnings only.
func noContentOrWarnings() map[int][]framework.Response {
	answers := noContent()
	answers[http.StatusOK] = []framework.Response{{Description: "Warnings"}}
	return answers
}

// listSchema is the schema of a list.
func listSchema(what string) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{
		Description: "OK",
		Fields:      map[string]*framework.FieldSchema{"keys": {Type: framework.TypeStringSlice, Description: what}},
	}}}
}

func addWarnings(response *logical.Response, warnings ...string) {
	for _, warning := range warnings {
		if warning != "" {
			response.AddWarning(warning)
		}
	}
}
