// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/fields"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const testAPI = "https://ksef.test/v2"

var ownTaxpayer = client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}

// newLoaded is a mount without a configuration.
func newLoaded(t *testing.T) *backend {
	t.Helper()
	loaded, err := NewFactory("v1.2.3")(t.Context(), &logical.BackendConfig{
		StorageView: &logical.InmemStorage{}, System: &logical.StaticSystemView{}, Logger: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { loaded.Cleanup(context.Background()) })
	return loaded.(*backend)
}

func TestPathsAreDocumented(t *testing.T) {
	b := newBackend("v1.2.3", &logical.InmemStorage{}, nil, nil)
	for _, path := range b.Paths {
		require.NotEmpty(t, path.HelpSynopsis, path.Pattern)
		require.NotNil(t, path.DisplayAttrs, path.Pattern)
		for field, fieldSchema := range path.Fields {
			require.NotEmpty(t, fieldSchema.Description, "%s %s", path.Pattern, field)
			secret := strings.Contains(field, "password") || field == "private_key" || field == "pkcs12" || field == "token"
			require.Equal(t, secret, fieldSchema.DisplayAttrs != nil && fieldSchema.DisplayAttrs.Sensitive, "%s %s", path.Pattern, field)
		}
		for operation, handler := range path.Operations {
			properties := handler.Properties()
			require.NotEmpty(t, properties.Responses, "%s %s", operation, path.Pattern)
			writes := operation != logical.ListOperation && path.Pattern != "config" && !strings.HasPrefix(path.Pattern, rolesPrefix) && !strings.HasPrefix(path.Pattern, staticRolesPrefix) || operation == logical.UpdateOperation
			if writes {
				require.True(t, properties.ForwardPerformanceStandby, "%s %s", operation, path.Pattern)
				require.True(t, properties.ForwardPerformanceSecondary, "%s %s", operation, path.Pattern)
			}
		}
	}
	require.Equal(t, "v1.2.3", b.PluginVersion().Version)
	require.Equal(t, logical.TypeLogical, b.Type())
}

func TestPanicStaysInItsRequest(t *testing.T) {
	var logs bytes.Buffer
	b := newBackend("v1", &logical.InmemStorage{}, nil, nil)
	b.Paths = append(b.Paths, panicking())
	require.NoError(t, b.Setup(t.Context(), &logical.BackendConfig{
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &logs}), System: logical.TestSystemView(),
	}))
	_, err := b.HandleRequest(t.Context(), &logical.Request{Operation: logical.ReadOperation, Path: "panics"})
	require.ErrorContains(t, err, "the read of panics failed")
	require.Contains(t, logs.String(), "the engine panicked")
	_, exists, err := b.HandleExistenceCheck(t.Context(), &logical.Request{Operation: logical.CreateOperation, Path: "panics"})
	require.ErrorContains(t, err, "the existence check of panics failed")
	require.False(t, exists)
	require.NotContains(t, logs.String(), "the-secret-in-the-panic")
}

func panicking() *framework.Path {
	return &framework.Path{
		Pattern: "panics",
		ExistenceCheck: func(context.Context, *logical.Request, *framework.FieldData) (bool, error) {
			panic("the-secret-in-the-panic")
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: fields.ReadOperation(func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
				panic("the-secret-in-the-panic")
			}, "panic", nil),
		},
	}
}

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
		for _, path := range []string{"config", "roles/invoices", "static-roles/erp"} {
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
