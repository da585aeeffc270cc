// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// isRead says of an operation that it forgives fields that mean nothing to it. Programs put
// parameters of their own into the query of a read; a typing error in a write or a delete changes
// what is stored.
func isRead(operation logical.Operation) bool {
	return operation == logical.ReadOperation || operation == logical.ListOperation
}

// withoutUnknownFields returns the data of a read without the fields that its path does not have,
// and a warning that names each.
func withoutUnknownFields(path *framework.Path, given map[string]any) (known map[string]any, warnings []string) {
	known = maps.Clone(given)
	for _, field := range slices.Sorted(maps.Keys(given)) {
		if path.Fields[field] == nil {
			delete(known, field)
			warnings = append(warnings, shownField(field)+": is not a field of this path, and was ignored")
		}
	}
	// Names that may not be shown are alike.
	return known, slices.Compact(warnings)
}

func fieldNames(fields map[string]*framework.FieldSchema) string {
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// readingOnly has a read warn of the fields that its path has for other operations alone; used are
// those that mean something to it.
func readingOnly(callback framework.OperationFunc, used ...string) framework.OperationFunc {
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
