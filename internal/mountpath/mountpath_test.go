// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package mountpath_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"vault-plugin-secrets-ksef/internal/mountpath"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestName(t *testing.T) {
	const text, named = "see vault list <mount>/roles", "see vault list team/ksef/roles"
	name := func(response *logical.Response, err error) (*logical.Response, error) {
		return mountpath.Name("team/ksef/", response, err)
	}
	t.Run("an error keeps its status and its cause", func(t *testing.T) {
		cause := logical.CodedError(http.StatusTooManyRequests, text)
		_, err := name(nil, fmt.Errorf("reading: %w", cause))
		require.EqualError(t, err, "reading: "+named)
		require.ErrorIs(t, err, cause)
		coded, is := err.(logical.HTTPCodedError) //nolint:errorlint // Vault looks at the outermost error alone
		require.True(t, is)
		require.Equal(t, http.StatusTooManyRequests, coded.Code())
	})
	t.Run("an error without a status gets none", func(t *testing.T) {
		_, err := name(nil, errors.New(text))
		require.EqualError(t, err, named)
		require.NotImplements(t, (*logical.HTTPCodedError)(nil), err)
	})
	t.Run("an error without the placeholder stays", func(t *testing.T) {
		_, err := name(nil, logical.ErrUnsupportedOperation)
		require.Equal(t, logical.ErrUnsupportedOperation, err)
	})
	t.Run("warnings and the text of an error response", func(t *testing.T) {
		response := logical.ErrorResponse(text)
		response.AddWarning(text)
		response, err := name(response, nil)
		require.NoError(t, err)
		require.EqualError(t, response.Error(), named)
		require.Equal(t, []string{named}, response.Warnings)
	})
	t.Run("the errors and warnings of status", func(t *testing.T) {
		response, err := name(&logical.Response{Data: map[string]any{
			"last_error": text,
			"verbose": map[string]any{
				"queue": map[string]any{"last_error": text, "role": text}, "logins": []map[string]any{{"error": text, "warning": text}},
			},
		}}, nil)
		require.NoError(t, err)
		require.Equal(t, map[string]any{
			"last_error": named,
			"verbose": map[string]any{
				"queue": map[string]any{"last_error": named, "role": text}, "logins": []map[string]any{{"error": named, "warning": named}},
			},
		}, response.Data)
	})
	t.Run("what users have stored stays", func(t *testing.T) {
		response, err := name(&logical.Response{Data: map[string]any{"description": text, "error": text, "more": ""}}, nil)
		require.NoError(t, err)
		require.Equal(t, text, response.Data["description"])
	})
	t.Run("without a path nothing changes", func(t *testing.T) {
		_, err := mountpath.Name("", nil, errors.New(text))
		require.EqualError(t, err, text)
	})
}
