// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// mountPlaceholder stands for the mount's path in commands that texts recommend: only a request
// tells it, and it changes when the mount is moved.
const mountPlaceholder = "<mount>/"

// nameMount puts the mount's path into the texts of an answer, so that their commands can be run as
// they are.
func nameMount(path string, response *logical.Response, err error) (*logical.Response, error) {
	if path == "" {
		return response, err
	}
	if response != nil {
		for i, warning := range response.Warnings {
			response.Warnings[i] = strings.ReplaceAll(warning, mountPlaceholder, path)
		}
		nameMountInErrors(path, response)
	}
	if err == nil || !strings.Contains(err.Error(), mountPlaceholder) {
		return response, err
	}
	named := error(&textError{error: err, text: strings.ReplaceAll(err.Error(), mountPlaceholder, path)})
	var coded logical.HTTPCodedError
	if errors.As(err, &coded) {
		named = &statusError{error: named, status: coded.Code()}
	}
	return response, named
}

// nameMountInErrors leaves all other data as it is: users may have written it.
func nameMountInErrors(path string, response *logical.Response) {
	nameMountIn(path, response.Data, "last_error") // of status
	if response.IsError() {
		nameMountIn(path, response.Data, "error")
	}
	if details, is := response.Data[fieldVerbose].(map[string]any); is {
		nameMountIn(path, details, "last_error", "error", "warning")
	}
}

// nameMountIn changes the texts of some fields, those of nested values included.
func nameMountIn(path string, data map[string]any, fields ...string) {
	for field, value := range data {
		switch value := value.(type) {
		case string:
			if slices.Contains(fields, field) {
				data[field] = strings.ReplaceAll(value, mountPlaceholder, path)
			}
		case map[string]any:
			nameMountIn(path, value, fields...)
		case []map[string]any:
			for _, one := range value {
				nameMountIn(path, one, fields...)
			}
		}
	}
}

// textError says an error in other words.
type textError struct {
	error
	text string
}

func (e *textError) Error() string { return e.text }

func (e *textError) Unwrap() error { return e.error }
