// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// loadContract reads KSeF's OpenAPI from the directory in KSEF_CONTRACTS, or returns nil when it is
// not set.
var loadContract = sync.OnceValues(func() (*openapi3.T, error) {
	directory := os.Getenv("KSEF_CONTRACTS")
	if directory == "" {
		return nil, nil
	}
	contract, err := openapi3.NewLoader().LoadFromFile(filepath.Join(directory, "ksef-openapi-2.7.0.json"))
	if err != nil {
		return nil, err
	}
	relabelUnauthorized(contract)
	return contract, nil
})

// undocumented reports whether a response has a status that the OpenAPI does not list but the
// simulator uses. 404 and 405 are only for operations that are left out.
func undocumented(contract *openapi3.T, method, path string, status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		name, operation := findOperation(contract, method, path)
		return operation == nil || slices.Contains(leftOut(), name)
	case http.StatusNotImplemented:
		name, _ := findOperation(contract, method, path)
		return slices.Contains(withoutInvoices(), name)
	case http.StatusUnsupportedMediaType, http.StatusInternalServerError, http.StatusServiceUnavailable:
		return true
	}
	return false
}

// contractTransport checks every response of the API against the OpenAPI, except for the
// exceptions.
type contractTransport struct {
	t          testing.TB
	next       http.RoundTripper
	exceptions []exception
}

func (c contractTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(request)
	contract, loadErr := loadContract()
	require.NoError(c.t, loadErr)
	path, isAPI := strings.CutPrefix(request.URL.Path, "/v2")
	if err != nil || contract == nil || !isAPI || undocumented(contract, request.Method, path, resp.StatusCode) {
		return resp, err
	}
	body, readErr := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failingReader{readErr}))
	if readErr != nil || bytes.Contains(body, []byte("garbage")) {
		return resp, err
	}
	for _, e := range c.exceptions {
		body = e.edit(resp, body)
	}
	require.NoError(c.t, checkResponse(contract, request.Method, path, resp, body), "%s %s returned %d %s",
		request.Method, path, resp.StatusCode, body)
	return resp, nil
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

func checkResponse(contract *openapi3.T, method, path string, resp *http.Response, body []byte) error {
	_, operation := findOperation(contract, method, path)
	if operation == nil {
		return fmt.Errorf("no such operation")
	}
	documented := operation.Responses.Status(resp.StatusCode)
	if documented == nil {
		return fmt.Errorf("the status is not documented")
	}
	if len(documented.Value.Content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("no body is documented")
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	media := documented.Value.Content.Get(kind)
	if media == nil {
		return fmt.Errorf("the media type %s is not documented", kind)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return media.Schema.Value.VisitJSON(value, openapi3.VisitAsResponse(), openapi3.MultiErrors(),
		openapi3.EnableFormatValidation())
}

// findOperation returns the operation of a path, and its name: method and path as in the OpenAPI.
func findOperation(contract *openapi3.T, method, path string) (string, *openapi3.Operation) {
	if item := contract.Paths.Value(path); item != nil {
		return method + " " + path, item.GetOperation(method)
	}
	for template, item := range contract.Paths.Map() {
		pattern := "^" + regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(template, "[^/]+") + "$"
		if regexp.MustCompile(pattern).MatchString(path) && item.GetOperation(method) != nil {
			return method + " " + template, item.GetOperation(method)
		}
	}
	return "", nil
}

func TestContractCheckerFindsFaults(t *testing.T) {
	contract, err := loadContract()
	require.NoError(t, err)
	if contract == nil {
		return // the checks are off
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}}
	check := func(body string) error {
		return checkResponse(contract, "GET", "/tokens/20250625-EC-20F5EE4000-DA48AE4124-46", resp, []byte(body))
	}
	const valid = `{"referenceNumber":"20250625-EC-20F5EE4000-DA48AE4124-46",
		"authorIdentifier":{"type":"Nip","value":"1"},
		"contextIdentifier":{"type":"Nip","value":"1"},
		"description":"abcde","requestedPermissions":["InvoiceRead"],
		"dateCreated":"2025-07-11T12:23:56.0154302+00:00","status":"Active"}`
	require.NoError(t, check(valid))
	for old, replacement := range map[string]string{`"Active"`: `"Alive"`, "-46": "-4", "2025-07-11T": "yesterday ",
		`"Nip"`: `"Ship"`, "status": "state"} {
		require.Error(t, check(strings.Replace(valid, old, replacement, 1)), "%s", replacement)
	}
}
