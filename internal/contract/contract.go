// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package contract checks HTTP traffic against KSeF's OpenAPI document. It is for tests alone.
package contract

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// fileName is KSeF's name of its document, by version.
const fileName = "ksef-openapi-*.json"

// Contract is KSeF's OpenAPI document. It is safe for concurrent use.
type Contract struct {
	router  routers.Router
	base    string
	options *openapi3filter.Options
}

// Load reads the only OpenAPI document in a directory.
func Load(dir string) (*Contract, error) {
	found, err := filepath.Glob(filepath.Join(dir, fileName))
	if err != nil {
		return nil, fmt.Errorf("looking for %s in %s: %w", fileName, dir, err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%s holds %d files named %s, not one", dir, len(found), fileName)
	}
	text, err := os.ReadFile(found[0]) //nolint:gosec // a test names the directory
	if err != nil {
		return nil, fmt.Errorf("reading the contract: %w", err)
	}
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", found[0], err)
	}
	// Some of KSeF's examples violate its own schemas.
	if err := document.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		return nil, fmt.Errorf("checking %s: %w", found[0], err)
	}
	return compile(document)
}

// compile makes the contract apply to any host under the path of KSeF's server.
func compile(document *openapi3.T) (*Contract, error) {
	if len(document.Servers) == 0 {
		return nil, errors.New("the document names no server")
	}
	server, err := url.Parse(document.Servers[0].URL)
	if err != nil {
		return nil, fmt.Errorf("address of the server: %w", err)
	}
	base := strings.TrimSuffix(server.Path, "/")
	document.Servers = openapi3.Servers{{URL: base + "/"}}
	relax(document)
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		return nil, fmt.Errorf("routes of the document: %w", err)
	}
	options := &openapi3filter.Options{
		MultiError:                        true,
		IncludeResponseStatus:             true,
		RejectWhenRequestBodyNotSpecified: true,
		SkipSettingDefaults:               true,
		AuthenticationFunc:                requireBearer,
	}
	options.WithCustomSchemaErrorFunc(explain)
	return &Contract{router: router, base: base, options: options}, nil
}

// relax removes the schemas of XML bodies, which are "string": the content type can be checked
// without a decoder for XML. It allows application/json for the problem details of a 401, too, as
// KSeF does against its own document (test_error_format.py of stacking-hq/ksef2, daily against
// TEST).
func relax(document *openapi3.T) {
	for _, path := range document.Paths.Map() {
		for _, operation := range path.Operations() {
			if body := operation.RequestBody; body != nil {
				if content := body.Value.Content["application/xml"]; content != nil {
					content.Schema = nil
				}
			}
			if refused := operation.Responses.Status(http.StatusUnauthorized); refused != nil {
				if problem := refused.Value.Content["application/problem+json"]; problem != nil {
					refused.Value.Content["application/json"] = problem
				}
			}
		}
	}
}

// requireBearer checks KSeF's only security scheme.
func requireBearer(_ context.Context, input *openapi3filter.AuthenticationInput) error {
	token, isBearer := strings.CutPrefix(input.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer ")
	if !isBearer || token == "" {
		return errors.New("the request has no bearer token")
	}
	return nil
}

// explain states the error and its place, without the value: it may be a secret.
func explain(err *openapi3.SchemaError) string {
	text := "/" + strings.Join(err.JSONPointer(), "/") + ": " + err.Reason
	if err.Origin != nil {
		text += " (" + err.Origin.Error() + ")"
	}
	return text
}
