// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"errors"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
)

// mountPlaceholder stands for the mount's path in commands that texts recommend: only a request tells
// it, and it changes when the mount is moved.
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
		nameMountInError(path, response)
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

// nameMountInError leaves all other data as it is: users may have written it.
func nameMountInError(path string, response *logical.Response) {
	field := "last_error" // of status
	if response.IsError() {
		field = "error"
	}
	if text, is := response.Data[field].(string); is {
		response.Data[field] = strings.ReplaceAll(text, mountPlaceholder, path)
	}
}

// textError says an error in other words.
type textError struct {
	error
	text string
}

func (e *textError) Error() string { return e.text }

func (e *textError) Unwrap() error { return e.error }
