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

// leftOut are the operations of the OpenAPI that the simulator does not have: it answers them as
// unknown paths.
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
		"POST /invoices/query/metadata",
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

// withoutInvoices are those that take invoices: the simulator answers 501.
func withoutInvoices() []string {
	return []string{
		"POST /sessions/batch",
		"POST /sessions/batch/{referenceNumber}/close",
		"POST /sessions/online/{referenceNumber}/invoices",
	}
}

// relabelUnauthorized puts what KSeF does in the place of what its OpenAPI says: 401 is labelled
// application/json.
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

// exception is what a switch makes answers differ from the OpenAPI in. Mended, they must agree with
// it again, so that all else in them is checked.
type exception struct {
	name    string
	applies func(simulator.Options) bool
	mend    func(resp *http.Response, body []byte) []byte
}

func exceptions() []exception {
	return []exception{{
		name:    "authenticationMethod is left out",
		applies: func(options simulator.Options) bool { return options.OmitAuthenticationMethod },
		mend: func(_ *http.Response, body []byte) []byte {
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
		mend: func(resp *http.Response, body []byte) []byte {
			if resp.StatusCode != http.StatusForbidden || len(body) > 0 {
				return body
			}
			resp.Header.Set("Content-Type", "application/problem+json")
			return []byte(`{"title": "Forbidden", "status": 403, "detail": "", "reasonCode": "", "timestamp": "2026-01-01T00:00:00Z"}`)
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

// mendJSON edits every object in a body of JSON; another body stays as it is.
func editJSON(body []byte, edit func(map[string]any)) []byte {
	var value any
	if json.Unmarshal(body, &value) != nil {
		return body
	}
	eachObject(value, edit)
	mended, err := json.Marshal(value)
	if err != nil {
		return body
	}
	return mended
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

// TestContractEveryOperationServedOrListed holds that no operation is missing
// unnoticed.
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
