// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package mountpath completes the commands that texts recommend with the path of the mount.
package mountpath

import (
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// Placeholder is the mount's path in texts. Only a request has the path itself, and it changes when
// the mount is moved.
const Placeholder = "<mount>/"

// verbose is the field of status with nested values.
const verbose = "verbose"

// Name replaces the placeholder in a response or error, so that commands can be run as they are.
func Name(path string, response *logical.Response, err error) (*logical.Response, error) {
	if path == "" {
		return response, err
	}
	if response != nil {
		for i, warning := range response.Warnings {
			response.Warnings[i] = strings.ReplaceAll(warning, Placeholder, path)
		}
		nameInErrors(path, response)
	}
	if err == nil || !strings.Contains(err.Error(), Placeholder) {
		return response, err
	}
	named := textError{error: err, text: strings.ReplaceAll(err.Error(), Placeholder, path)}
	var coded logical.HTTPCodedError
	if errors.As(err, &coded) {
		return response, &codedError{named, coded.Code()}
	}
	return response, &named
}

// nameInErrors leaves all other data unchanged: it may be a user's.
func nameInErrors(path string, response *logical.Response) {
	nameIn(path, response.Data, "last_error") // of status
	if response.IsError() {
		nameIn(path, response.Data, "error")
	}
	if details, is := response.Data[verbose].(map[string]any); is {
		nameIn(path, details, "last_error", "error", "warning")
	}
}

// nameIn changes the texts of some fields, nested ones included.
func nameIn(path string, data map[string]any, fields ...string) {
	for field, value := range data {
		switch value := value.(type) {
		case string:
			if slices.Contains(fields, field) {
				data[field] = strings.ReplaceAll(value, Placeholder, path)
			}
		case map[string]any:
			nameIn(path, value, fields...)
		case []map[string]any:
			for _, one := range value {
				nameIn(path, one, fields...)
			}
		}
	}
}

// textError replaces the text of an error.
type textError struct {
	error
	text string
}

func (e *textError) Error() string { return e.text }

func (e *textError) Unwrap() error { return e.error }

// codedError keeps the HTTP status of the error: Vault looks for it in the outermost error alone.
type codedError struct {
	textError
	code int
}

// Code implements logical.HTTPCodedError.
func (e *codedError) Code() int { return e.code }
