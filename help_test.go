// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestHelp(t *testing.T) {
	b := newBackend("v1.2.3", &logical.InmemStorage{}, nil, nil)
	help := func(t *testing.T, path string) *logical.Response {
		response, err := b.Backend.HandleRequest(t.Context(), &logical.Request{Operation: logical.HelpOperation, Path: path})
		require.NoError(t, err)
		return response
	}
	t.Run("paths", func(t *testing.T) {
		for _, path := range b.Paths {
			require.NotEmpty(t, strings.TrimSpace(path.HelpDescription), path.Pattern)
			require.NotRegexp(t, `(?i)^(the|a|an|what|how|who)\b`, path.HelpSynopsis, "%s: a synopsis says what to do", path.Pattern)
		}
	})
	t.Run("defaults", func(t *testing.T) {
		for _, path := range b.Paths {
			for name, field := range path.Fields {
				requireDefault(t, path.Pattern+" "+name, field)
			}
		}
	})
	t.Run("rotation_fields", func(t *testing.T) {
		text := help(t, "config").Data["help"].(string)
		for _, foreign := range []string{"username", "RotationManager", "TTL for automatic"} {
			require.NotContains(t, text, foreign)
		}
	})
	t.Run("fields_left_out", func(t *testing.T) {
		for _, path := range []string{"config", "roles/invoices"} {
			require.Regexp(t, `Fields that are left out (of a later write )?stay as they are`, help(t, path).Data["help"], path)
		}
	})
	t.Run("creds", func(t *testing.T) {
		for _, path := range []string{"creds", "creds/"} {
			require.Contains(t, help(t, path).Data["help"], "vault read ksef/creds/invoices", path)
		}
		for _, operation := range []logical.Operation{logical.ReadOperation, logical.ListOperation, logical.UpdateOperation} {
			_, err := b.HandleRequest(t.Context(), &logical.Request{Operation: operation, Path: "creds/"})
			require.ErrorIs(t, err, logical.ErrUnsupportedOperation)
		}
	})
	t.Run("openapi", func(t *testing.T) {
		text, err := json.Marshal(help(t, "").Data["openapi"])
		require.NoError(t, err)
		document, err := openapi3.NewLoader().LoadFromData(text)
		require.NoError(t, err)
		require.NoError(t, document.Validate(t.Context(), openapi3.DisableExamplesValidation()))
		require.NotNil(t, document.Paths.Value("/creds/{role}"))
		require.NotNil(t, document.Paths.Value("/status"))
	})
}

// requireDefault requires that the description of a field states its default.
func requireDefault(t *testing.T, about string, field *framework.FieldSchema) {
	t.Helper()
	described := field.Description
	if field.Required || strings.Contains(described, "Read only:") || strings.Contains(described, "Required for ") {
		return
	}
	_, stated, found := strings.Cut(described, "Default: ")
	require.True(t, found, "%s has no default: %s", about, described)
	if field.Default != nil {
		require.Equal(t, strings.TrimSuffix(fmt.Sprint(field.Default), "0m0s")+".", stated, about)
	}
}
