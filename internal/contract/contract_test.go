// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// document is a small API in the manner of KSeF's.
const document = `{
  "openapi": "3.0.4",
  "info": {"title": "Test", "version": "1"},
  "servers": [{"url": "https://api.example.org/v2"}],
  "components": {"securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer"}}},
  "paths": {
    "/tokens": {
      "post": {
        "security": [{"Bearer": []}],
        "requestBody": {"content": {"application/json": {"schema": {
          "type": "object", "required": ["description"],
          "properties": {"description": {"type": "string", "minLength": 5}}
        }}}},
        "responses": {
          "202": {"description": "", "content": {"application/json": {"schema": {
            "type": "object", "required": ["token", "made"],
            "properties": {
              "token": {"type": "string", "maxLength": 10},
              "made": {"type": "string", "format": "date-time"},
              "key": {"type": "string", "format": "byte"}
            }
          }}}},
          "401": {"description": "", "content": {"application/problem+json": {"schema": {
            "type": "object", "required": ["detail"]
          }}}},
          "429": {"description": "", "headers": {"Retry-After": {"schema": {"type": "integer"}}},
            "content": {"application/problem+json": {"schema": {"type": "object"}}}}
        }
      }
    },
    "/tokens/{number}": {
      "parameters": [{"name": "number", "in": "path", "required": true, "schema": {"type": "string", "minLength": 3}}],
      "get": {
        "parameters": [{"name": "pageSize", "in": "query", "schema": {"type": "integer", "minimum": 10, "default": 10}}],
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}}
      },
      "delete": {"responses": {"204": {"description": ""}}}
    },
    "/signed": {
      "post": {
        "requestBody": {"required": true, "content": {"application/xml": {"schema": {"type": "string"}}}},
        "responses": {"200": {"description": ""}}
      }
    }
  }
}`

func load(t *testing.T) *Contract {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ksef-openapi-0.0.1.json"), []byte(document), 0o600))
	contract, err := Load(dir)
	require.NoError(t, err)
	return contract
}

func TestLoadAsksForExactlyOneDocument(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	_, err := Load(dir)
	require.ErrorContains(t, err, "holds 0 files")
	write("ksef-openapi-1.json", "{")
	_, err = Load(dir)
	require.ErrorContains(t, err, "reading")
	write("ksef-openapi-1.json", `{"openapi": "3.0.4"}`)
	_, err = Load(dir)
	require.ErrorContains(t, err, "checking")
	write("ksef-openapi-1.json", strings.Replace(document, `"servers": [{"url": "https://api.example.org/v2"}],`, "", 1))
	_, err = Load(dir)
	require.ErrorContains(t, err, "names no server")
	write("ksef-openapi-2.json", document)
	_, err = Load(dir)
	require.ErrorContains(t, err, "holds 2 files")
}

// TestKSeFsDocumentIsUnderstood needs the document, which may not be redistributed: KSEF_CONTRACTS
// names its directory.
func TestKSeFsDocumentIsUnderstood(t *testing.T) {
	dir := os.Getenv("KSEF_CONTRACTS")
	if os.Getenv("CI") != "" {
		require.NotEmpty(t, dir, "KSEF_CONTRACTS names the directory of the document")
	}
	if dir == "" {
		t.Log("KSEF_CONTRACTS is not set, so KSeF's document was not read")
		return
	}
	contract, err := Load(dir)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		method, path, contentType, request string
		status                             int
		answerType, answer                 string
		want                               string
	}{
		"challenge":                   {"POST", "/v2/auth/challenge", "", "", 200, "application/json", `{"challenge":"20250514-CR-226FB7B000-3ACF9BE4C0-10","timestamp":"2025-07-11T12:23:56.0154302+00:00","timestampMs":1752236636015,"clientIp":"127.0.0.1"}`, ""},
		"challenge without timestamp": {"POST", "/v2/auth/challenge", "", "", 200, "application/json", `{"challenge":"20250514-CR-226FB7B000-3ACF9BE4C0-10"}`, `property "timestamp" is missing`},
		"login":                       {"POST", "/v2/auth/xades-signature?verifyCertificateChain=true", "application/xml", "<a/>", 400, "application/json", `{"exception":{"exceptionDetailList":[],"serviceCode":"x","timestamp":"2025-07-11T12:23:56Z"}}`, ""},
		"login as text":               {"POST", "/v2/auth/xades-signature", "text/plain", "<a/>", 400, "application/json", `{"exception":null}`, "text/plain"},
		"token":                       {"POST", "/v2/tokens", "application/json", `{"permissions":["InvoiceRead"],"description":"Testowy token"}`, 202, "application/json", `{"referenceNumber":"20250625-EC-319D7EE000-B67F415CDC-2C","token":"x"}`, ""},
		"token without permissions":   {"POST", "/v2/tokens", "application/json", `{"description":"Testowy token"}`, 202, "application/json", `{"referenceNumber":"20250625-EC-319D7EE000-B67F415CDC-2C","token":"x"}`, `property "permissions" is missing`},
		"session before operation":    {"DELETE", "/v2/auth/sessions/current", "", "", 204, "", "", ""},
		"tokens by status":            {"GET", "/v2/tokens?status=Active&status=Pending&pageSize=10", "", "", 200, "application/json", `{"tokens":[],"continuationToken":null}`, ""},
		"tokens by unknown status":    {"GET", "/v2/tokens?status=Alive", "", "", 200, "application/json", `{"tokens":[]}`, "request: "},
		"status that is not listed":   {"GET", "/v2/tokens", "", "", 404, "", "", "response 404: the status is not documented"},
	} {
		t.Run(name, func(t *testing.T) {
			request := send(t, c.method, c.path, c.request)
			request.Header.Set("Content-Type", c.contentType)
			request.Header.Set("Authorization", "Bearer test")
			reported := serve(contract, answering(c.status, c.answerType, c.answer), request)
			if c.want == "" {
				require.Empty(t, reported)
				return
			}
			require.Len(t, reported, 1)
			require.ErrorContains(t, reported[0], c.want)
		})
	}
}

func send(t *testing.T, method, path, body string) *http.Request {
	return httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
}

func answering(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func serve(contract *Contract, next http.Handler, request *http.Request) []error {
	var reported []error
	contract.Middleware(next, func(err error) { reported = append(reported, err) }).
		ServeHTTP(httptest.NewRecorder(), request)
	return reported
}
