// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

const (
	personsQuery  = "/permissions/query/persons/grants"
	personalQuery = "/permissions/query/personal/grants"
	grantText     = "Uprawnienie testowe"
)

type object = map[string]any

func identifier(kind, value string) object { return object{"type": kind, "value": value} }

// company is the seal of the other NIP of the tests.
func company(t testing.TB) credential {
	t.Helper()
	return newCredential(t, simulator.CertificateOptions{NIP: otherNIP})
}

func person(t testing.TB) credential {
	t.Helper()
	return newCredential(t, simulator.CertificateOptions{PESEL: pesel})
}

// personGrant returns the body that grants permissions to a subject.
func personGrant(to object, permissions ...string) object {
	return object{
		"subjectIdentifier": to, "permissions": permissions, "description": grantText,
		"subjectDetails": object{
			"subjectDetailsType": "PersonByIdentifier", "personById": object{"firstName": "Anna",
				"lastName": "Testowa"},
		},
	}
}

// entityGrant returns the body of the official test ExceptionsApiIntegrationTest.
func entityGrant(to string) object {
	return object{
		"subjectIdentifier": identifier("Nip", to), "description": grantText,
		"permissions": []object{
			{"type": "InvoiceRead", "canDelegate": true}, {"type": "InvoiceWrite", "canDelegate": false},
		},
		"subjectDetails": object{"fullName": "Testowo"},
	}
}

func (a *api) operationCode(s session, reference string) int {
	a.t.Helper()
	return a.want(http.StatusOK, "GET", "/permissions/operations/"+reference, s.access, nil).number("status.code")
}

// awaitOperation waits until a new operation has ended, and returns its code.
func (a *api) awaitOperation(s session, begun response) int {
	a.t.Helper()
	require.Equal(a.t, http.StatusAccepted, begun.status, "%v", begun.body)
	reference := begun.text("referenceNumber")
	require.Equal(a.t, 100, a.operationCode(s, reference))
	a.sim.Advance(time.Second)
	return a.operationCode(s, reference)
}

func (a *api) grant(s session, to object, permissions ...string) {
	a.t.Helper()
	require.Equal(a.t, 200,
		a.awaitOperation(s, a.do("POST", "/permissions/persons/grants", s.access, personGrant(to, permissions...))))
}

// granted returns the persons' grants that match a filter.
func (a *api) granted(s session, filter object) []map[string]any {
	a.t.Helper()
	if filter["queryType"] == nil {
		filter["queryType"] = "PermissionsGrantedInCurrentContext"
	}
	return a.want(http.StatusOK, "POST", personsQuery+"?pageSize=100", s.access, filter).list("permissions")
}

func (a *api) personal(s session, filter any) []map[string]any {
	a.t.Helper()
	return a.want(http.StatusOK, "POST", personalQuery, s.access, filter).list("permissions")
}

// revokeGrants revokes all grants in the context of the session.
func (a *api) revokeGrants(s session) {
	a.t.Helper()
	for _, g := range a.granted(s, object{}) {
		require.Equal(a.t, 200,
			a.awaitOperation(s, a.do("DELETE", "/permissions/common/grants/"+g["id"].(string), s.access, nil)))
	}
}

func scopes(list []map[string]any) []string {
	found := []string{}
	for _, g := range list {
		found = append(found, g["permissionScope"].(string))
	}
	return found
}

// loginCode returns the final code of a login in the context of the tests.
func (a *api) loginCode(c credential) int {
	a.t.Helper()
	code, _ := a.status(a.begin(c, nipXML))
	return code
}

func (a *api) refresh(s session) session {
	a.t.Helper()
	got := a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh, nil)
	return session{s.reference, got.text("accessToken.token"), s.refresh}
}
