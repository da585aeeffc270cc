// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// leftOut are the operations of the OpenAPI that the simulator lacks. It responds as to unknown
// paths.
func leftOut() []string {
	return []string{
		"DELETE /permissions/authorizations/grants/{permissionId}",
		"GET /collective-identifiers/ksef/{ksefNumber}",
		"GET /collective-identifiers/{collectiveIdentifierNumber}/invoices",
		"GET /invoices/exports/{referenceNumber}",
		"GET /invoices/ksef/{ksefNumber}",
		"GET /peppol/query",
		"GET /permissions/attachments/status",
		"GET /permissions/query/entities/roles",
		"GET /sessions/{referenceNumber}/invoices",
		"GET /sessions/{referenceNumber}/invoices/failed",
		"GET /sessions/{referenceNumber}/invoices/ksef/{ksefNumber}/upo",
		"GET /sessions/{referenceNumber}/invoices/{invoiceReferenceNumber}",
		"GET /sessions/{referenceNumber}/invoices/{invoiceReferenceNumber}/upo",
		"GET /sessions/{referenceNumber}/upo/{upoReferenceNumber}",
		"POST /collective-identifiers",
		"POST /collective-identifiers/query",
		"POST /invoices/exports",
		"POST /permissions/authorizations/grants",
		"POST /permissions/eu-entities/administration/grants",
		"POST /permissions/eu-entities/grants",
		"POST /permissions/indirect/grants",
		"POST /permissions/query/authorizations/grants",
		"POST /permissions/query/entities/grants",
		"POST /permissions/query/eu-entities/grants",
		"POST /permissions/query/subordinate-entities/roles",
		"POST /permissions/query/subunits/grants",
		"POST /permissions/subunits/grants",
		"POST /testdata/attachment",
		"POST /testdata/attachment/revoke",
	}
}

// withoutInvoices are the operations that take invoices. The simulator responds with 501.
func withoutInvoices() []string {
	return []string{
		"POST /sessions/batch",
		"POST /sessions/batch/{referenceNumber}/close",
		"POST /sessions/online/{referenceNumber}/invoices",
	}
}

// relabelUnauthorized replaces the OpenAPI's content type of 401 by KSeF's: application/json.
func relabelUnauthorized(contract *openapi3.T) {
	for _, item := range contract.Paths.Map() {
		for _, operation := range item.Operations() {
			refused := operation.Responses.Status(http.StatusUnauthorized)
			if refused == nil {
				continue
			}
			if problem := refused.Value.Content["application/problem+json"]; problem != nil {
				refused.Value.Content = openapi3.Content{"application/json": problem}
			}
		}
	}
}

// exception is a deviation from the OpenAPI that a switch causes. edit undoes it, so that the rest
// of the response is checked.
type exception struct {
	name    string
	applies func(simulator.Options) bool
	edit    func(resp *http.Response, body []byte) []byte
}

func exceptions() []exception {
	return []exception{{
		name:    "authenticationMethod is left out",
		applies: func(options simulator.Options) bool { return options.OmitAuthenticationMethod },
		edit: func(_ *http.Response, body []byte) []byte {
			return editJSON(body, func(object map[string]any) {
				_, there := object["authenticationMethod"]
				if _, described := object["authenticationMethodInfo"]; described && !there {
					object["authenticationMethod"] = "Token"
				}
			})
		},
	}, {
		name:    "403 without a body",
		applies: func(options simulator.Options) bool { return options.ForbidOtherJWTs },
		edit: func(resp *http.Response, body []byte) []byte {
			if resp.StatusCode != http.StatusForbidden || len(body) > 0 {
				return body
			}
			resp.Header.Set("Content-Type", "application/problem+json")
			return []byte(`{"title": "Forbidden", "status": 403, "detail": "", "reasonCode": "",
				"timestamp": "2026-01-01T00:00:00Z"}`)
		},
	}}
}

func exceptionsOf(options simulator.Options) []exception {
	var apply []exception
	for _, e := range exceptions() {
		if e.applies(options) {
			apply = append(apply, e)
		}
	}
	return apply
}

// editJSON edits every object in a JSON body. Other bodies remain unchanged.
func editJSON(body []byte, edit func(map[string]any)) []byte {
	var value any
	if json.Unmarshal(body, &value) != nil {
		return body
	}
	eachObject(value, edit)
	edited, err := json.Marshal(value)
	if err != nil {
		return body
	}
	return edited
}

func eachObject(value any, edit func(map[string]any)) {
	switch node := value.(type) {
	case []any:
		for _, item := range node {
			eachObject(item, edit)
		}
	case map[string]any:
		edit(node)
		for _, item := range node {
			eachObject(item, edit)
		}
	}
}

func TestContractExceptionsNeedASwitch(t *testing.T) {
	require.Empty(t, exceptionsOf(simulator.Options{}))
	names := map[string]simulator.Options{
		"authenticationMethod is left out": {OmitAuthenticationMethod: true},
		"403 without a body":               {ForbidOtherJWTs: true},
	}
	for name, options := range names {
		apply := exceptionsOf(options)
		require.Len(t, apply, 1)
		require.Equal(t, name, apply[0].name)
	}
}

// TestContractEveryOperationServedOrListed checks that no operation is missing unnoticed.
func TestContractEveryOperationServedOrListed(t *testing.T) {
	contract, err := loadContract()
	require.NoError(t, err)
	if contract == nil {
		return // the checks are off
	}
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	var unknown, invoices []string
	for template, item := range contract.Paths.Map() {
		for method := range item.Operations() {
			switch status := a.do(method, template, s.access, nil).status; status {
			case http.StatusNotFound, http.StatusMethodNotAllowed:
				unknown = append(unknown, method+" "+template)
			case http.StatusNotImplemented:
				invoices = append(invoices, method+" "+template)
			}
		}
	}
	require.ElementsMatch(t, leftOut(), unknown)
	require.NotEmpty(t, invoices)
	require.Subset(t, withoutInvoices(), invoices)
}
