// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package fields

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// WithTaxpayer adds the two fields that name a taxpayer.
func WithTaxpayer(fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
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

// WithTaxpayerDefault is WithTaxpayer for a request, with the default in the descriptions.
func WithTaxpayerDefault(otherwise string, fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields = WithTaxpayer(fields)
	for _, field := range []string{"nip", "internal_id"} {
		fields[field].Description += " Default: " + otherwise + "."
	}
	return fields
}

// TaxpayerOfConfig is the default taxpayer of requests.
const TaxpayerOfConfig = "that of config"

// AddTaxpayer adds a taxpayer to a response, under the name of its field.
func AddTaxpayer(response map[string]any, taxpayer client.ContextIdentifier) {
	switch taxpayer.Type {
	case client.ContextNIP:
		response["nip"] = taxpayer.Value
	case client.ContextInternalID:
		response["internal_id"] = taxpayer.Value
	}
}

// ReadPermissions reads the field permissions, in the given order and without duplicates.
func ReadPermissions(data *framework.FieldData) ([]string, error) {
	given := data.Get("permissions").([]string)
	if len(given) == 0 {
		return nil, &client.InputError{Field: "permissions", Fault: "is empty", Remedy: "give one or more of " + strings.Join(client.Permissions(), ", ")}
	}
	return Distinct(given), CheckKnown("permissions", given, client.Permissions())
}

// CheckKnown refuses a list with a value that KSeF does not know.
func CheckKnown(field string, given, known []string) error {
	for i, value := range given {
		if !slices.Contains(known, value) {
			return &client.InputError{
				Field: field, Fault: fmt.Sprintf("has at place %d one that KSeF does not know", i+1),
				Remedy: "give one or more of " + strings.Join(known, ", "),
			}
		}
	}
	return nil
}

// Distinct drops duplicates and keeps the order.
func Distinct(texts []string) []string {
	var all []string
	for _, text := range texts {
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// PermissionsSchema is the schema of the field permissions.
func PermissionsSchema() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeCommaStringSlice,
		Description: "What the token may do, in a list: " + strings.Join(client.Permissions(), ", ") + ". Required for a new role and for a token.",
	}
}

// ReadOperation is an operation that any node can answer.
func ReadOperation(callback framework.OperationFunc, verb string, response map[int][]framework.Response) *framework.PathOperation {
	return &framework.PathOperation{
		Callback: callback, Responses: response,
		DisplayAttrs: &framework.DisplayAttributes{OperationVerb: verb},
	}
}

// Forwarded is an operation that writes, so it goes to a node that may write.
func Forwarded(callback framework.OperationFunc, verb string, response map[int][]framework.Response) *framework.PathOperation {
	operation := ReadOperation(callback, verb, response)
	operation.ForwardPerformanceStandby, operation.ForwardPerformanceSecondary = true, true
	return operation
}

// DeleteOperation is a forwarded operation without a response.
func DeleteOperation(callback framework.OperationFunc, verb string) *framework.PathOperation {
	return Forwarded(callback, verb, NoContent())
}

// NoContent is the schema of an operation without a response.
func NoContent() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: "Empty body"}}}
}

// NoContentOrWarnings is the schema of an operation that responds with warnings alone.
func NoContentOrWarnings() map[int][]framework.Response {
	responses := NoContent()
	responses[http.StatusOK] = []framework.Response{{Description: "Warnings"}}
	return responses
}

// ResponseSchema is the schema of a response with these fields.
func ResponseSchema(fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: "OK", Fields: fields}}}
}

// ListSchema is the schema of a list.
func ListSchema(what string) map[int][]framework.Response {
	return ResponseSchema(map[string]*framework.FieldSchema{"keys": {Type: framework.TypeStringSlice, Description: what}})
}

// AddWarnings adds the warnings that are not empty.
func AddWarnings(response *logical.Response, warnings ...string) {
	for _, warning := range warnings {
		if warning != "" {
			response.AddWarning(warning)
		}
	}
}

// WithoutUnset returns the fields of a write that have a value, and the names of those given as
// null or as an empty text. A write resets these to their defaults.
func WithoutUnset(data *framework.FieldData) (given *framework.FieldData, unset []string) {
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

// ReadOnlyNote ends the descriptions of fields that a write ignores.
const ReadOnlyNote = " Read only: a write ignores it."

// withoutReadOnly returns the fields that a write uses.
func withoutReadOnly(fields map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	usable := maps.Clone(fields)
	maps.DeleteFunc(usable, func(_ string, schema *framework.FieldSchema) bool {
		return strings.HasSuffix(schema.Description, ReadOnlyNote)
	})
	return usable
}

// ReadOnly returns the computed fields of a response as fields of a write, so that a document that
// was read can be written back unchanged.
func ReadOnly(response map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	fields := make(map[string]*framework.FieldSchema, len(response))
	for field, schema := range response {
		kind := schema.Type
		if kind == framework.TypeTime {
			kind = framework.TypeString // an empty text is no time
		}
		fields[field] = &framework.FieldSchema{Type: kind, Description: schema.Description + ReadOnlyNote}
	}
	return fields
}

// MaxName is the longest name; it fits all of Vault's storage backends.
const MaxName = 200

var validName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$`)

// AnyName matches any text in place of a name, so that ReadName can say what is wrong with it.
func AnyName(field string) string { return "(?P<" + field + ">(?s:.+))" }

// NameSchema is the schema of a name in a path.
func NameSchema(of string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: "Name of the " + of + ", in lower case."}
}

// ReadName reads a name exactly as written. Policies and leases go by the path as written, so a
// name that also stood for another would bypass them.
func ReadName(data *framework.FieldData, field string) (string, error) {
	name := data.Get(field).(string)
	if len(name) <= MaxName && validName.MatchString(name) && !strings.Contains(name, "..") {
		return name, nil
	}
	return "", &client.InputError{
		Field: field, Fault: "cannot be a name",
		Remedy: "give up to 200 lower case letters, digits, dashes, dots and underscores, beginning and ending with a letter, digit or underscore, and no two dots in a row",
	}
}
