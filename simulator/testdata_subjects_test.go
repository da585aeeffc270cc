// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

const subunitNIP = "2222222222"

// testGrant returns the body that grants permissions in the context of the tests, or without any
// revokes all.
func testGrant(to object, permissions ...string) object {
	list := []object{}
	for _, permission := range permissions {
		list = append(list, object{"permissionType": permission, "description": "test-e2e"})
	}
	return object{"contextIdentifier": identifier("Nip", nip), "authorizedIdentifier": to, "permissions": list}
}

func (a *api) createPerson(nip, pesel string, changed object) {
	a.t.Helper()
	body := object{"nip": nip, "pesel": pesel, "isBailiff": false, "description": "Osoba testowa"}
	maps.Copy(body, changed)
	a.want(http.StatusOK, "POST", "/testdata/person", "", body)
}

func (a *api) createSubject(kind string, changed object) {
	a.t.Helper()
	body := object{"subjectNip": nip, "subjectType": kind, "description": "Podmiot testowy"}
	maps.Copy(body, changed)
	a.want(http.StatusOK, "POST", "/testdata/subject", "", body)
}

// This is SearchPersonalGrantPermissionIntegrationTest and the C# TestDataE2ETests.
func TestTestdataPermissionsTakeEffectAtOnce(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	require.Equal(t, 415, a.loginCode(company(t)))
	a.want(http.StatusOK, "POST", "/testdata/permissions", "",
		testGrant(identifier("Nip", otherNIP), "InvoiceRead", "InvoiceWrite"))
	grantee := a.login(company(t), nipXML)
	require.ElementsMatch(t, []string{"InvoiceRead", "InvoiceWrite"}, scopes(a.personal(grantee, object{})))
	a.want(http.StatusOK, "POST", "/testdata/permissions/revoke", "", testGrant(identifier("Nip", otherNIP)))
	require.Empty(t, a.personal(grantee, object{}))
	require.Equal(t, 415, a.loginCode(company(t)))
}

func TestTestdataPermissionsWithoutOperation(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	to := identifier("Nip", otherNIP)
	a.want(http.StatusAccepted, "POST", "/permissions/persons/grants", owner.access, personGrant(to, "InvoiceRead"))
	require.Equal(t, 415, a.loginCode(company(t)))
	a.want(http.StatusOK, "POST", "/testdata/permissions", "", testGrant(to, "InvoiceRead"))
	require.Equal(t, 200, a.loginCode(company(t)))
	a.sim.Advance(time.Second)
	require.Len(t, a.sim.State().Grants, 1)
}

func TestTestdataPermissionsRevokeAllInContext(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "CredentialsRead")
	a.grant(owner, identifier("Pesel", pesel), "InvoiceRead")
	a.want(http.StatusOK, "POST", "/testdata/permissions/revoke", "", testGrant(identifier("Nip", otherNIP)))
	require.Equal(t, []string{"InvoiceRead"}, scopes(a.granted(owner, object{})))

	id := a.granted(owner, object{})[0]["id"].(string)
	a.want(http.StatusAccepted, "DELETE", "/permissions/common/grants/"+id, owner.access, nil)
	require.Equal(t, 200, a.loginCode(person(t)), "an operation takes its time")
	a.want(http.StatusOK, "POST", "/testdata/permissions/revoke", "", testGrant(identifier("Pesel", pesel)))
	require.Equal(t, 415, a.loginCode(person(t)))
}

func TestTestdataPersonOwnsContextOfNIP(t *testing.T) {
	for name, options := range map[string]simulator.Options{
		"persons may do everything": {Limits: unlimited()},
		"grants are required":       {Limits: unlimited(), RequireGrants: true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, options)
			a.createPerson(nip, pesel, object{"createdDate": "2026-01-02T03:04:05.678+01:00"})
			owner := a.login(person(t), nipXML)
			require.Empty(t, a.personal(owner, object{}))
			a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead")
			refused := a.do("POST", "/permissions/persons/grants", owner.access,
				personGrant(identifier("Pesel", pesel), "InvoiceRead"))
			require.Equal(t, 450, a.awaitOperation(owner, refused))
			a.login(person(t), "<InternalId>"+nip+"-12346</InternalId>")
			a.want(http.StatusOK, "POST", "/testdata/person/remove", "", object{"nip": nip})
			require.Equal(t, 415, a.loginCode(person(t)))
			require.Equal(t, 200, a.loginCode(seal(t)))
		})
	}
}

func TestTestdataPersonRemovedLosesPermissions(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	a.createPerson(otherNIP, pesel, object{})
	a.want(http.StatusOK, "POST", "/testdata/permissions", "", testGrant(identifier("Nip", otherNIP), "InvoiceRead"))
	a.want(http.StatusOK, "POST", "/testdata/permissions", "", testGrant(identifier("Pesel", pesel), "InvoiceRead"))
	require.Equal(t, 200, a.loginCode(company(t)))
	for range 2 {
		a.want(http.StatusOK, "POST", "/testdata/person/remove", "", object{"nip": otherNIP})
	}
	require.Equal(t, 415, a.loginCode(company(t)))
	require.Equal(t, 415, a.loginCode(person(t)))
}

func TestTestdataDeceasedPersonCannotLogIn(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(person(t), nipXML)
	_, token := a.issue(s, "InvoiceRead")
	a.sim.Advance(time.Second)
	sessions := []session{s, a.login(seal(t), nipXML), a.redeem(a.beginWithToken(token))}
	decided := a.begin(person(t), nipXML)
	a.createPerson(nip, pesel, object{"isDeceased": true})
	for _, o := range []operation{a.begin(person(t), nipXML), a.begin(seal(t), nipXML), a.beginWithToken(token)} {
		code, detail := a.status(o)
		require.Equal(t, 470, code)
		require.Equal(t, "Próba wykorzystania metod autoryzacyjnych osoby zmarłej", detail)
	}
	for _, session := range sessions {
		a.refused(a.do("POST", "/auth/token/refresh", session.refresh, nil), 21308, "")
	}
	a.refused(a.do("POST", "/auth/token/redeem", decided.token, nil), 21308, "")
	require.Equal(t, 415, a.loginCode(company(t)))
}

func TestTestdataBlockedContextRefusesLogins(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	s := a.login(seal(t), nipXML)
	_, token := a.issue(s, "InvoiceRead")
	a.sim.Advance(time.Second)
	body := object{"contextIdentifier": identifier("Nip", nip)}
	for range 2 {
		a.want(http.StatusOK, "POST", "/testdata/context/block", "", body)
	}
	for _, o := range []operation{a.begin(seal(t), nipXML), a.begin(person(t), nipXML), a.beginWithToken(token)} {
		code, detail := a.status(o)
		require.Equal(t, 480, code)
		require.Contains(t, detail, "Podejrzenie incydentu bezpieczeństwa.")
	}
	a.refresh(s)
	code, _ := a.status(a.begin(seal(t), "<InternalId>"+nip+"-12346</InternalId>"))
	require.Equal(t, 200, code)
	a.want(http.StatusOK, "POST", "/testdata/context/unblock", "", body)
	require.Equal(t, 200, a.loginCode(seal(t)))
}

// This is EnforcementOperationIntegrationTest.
func TestTestdataEnforcementNeedsRole(t *testing.T) {
	roles := map[string]func(a *api){
		"EnforcementAuthority": func(a *api) { a.createSubject("EnforcementAuthority", object{}) },
		"CourtBailiff":         func(a *api) { a.createPerson(nip, pesel, object{"isBailiff": true}) },
	}
	for name, create := range roles {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, withoutRateLimits())
			owner := a.login(seal(t), nipXML)
			body := testGrant(identifier("Nip", otherNIP), "EnforcementOperations")
			a.refused(a.do("POST", "/testdata/permissions", "", body), 21405, "EnforcementOperations")
			create(a)
			a.grant(owner, identifier("Nip", otherNIP), "EnforcementOperations")
			require.Equal(t, []string{"EnforcementOperations"},
				scopes(a.personal(a.login(company(t), nipXML), object{})))
			a.want(http.StatusOK, "POST", "/testdata/permissions", "", body)
		})
	}
	a := newAPI(t, withoutRateLimits())
	a.createSubject("EnforcementAuthority", object{})
	a.want(http.StatusOK, "POST", "/testdata/subject/remove", "", object{"subjectNip": nip})
	body := testGrant(identifier("Nip", otherNIP), "EnforcementOperations")
	a.refused(a.do("POST", "/testdata/permissions", "", body), 21405, "EnforcementOperations")
	a.createSubject("VatGroup", object{})
	a.refused(a.do("POST", "/testdata/permissions", "", body), 21405, "EnforcementOperations")
}

func TestTestdataCreatedOnce(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	subunits := object{"subunits": []object{{"subjectNip": subunitNIP, "description": "Jednostka"}},
		"createdDate": "2026-01-01T00:00:00Z"}
	a.createSubject("VatGroup", subunits)
	again := func(path string, body object) { a.t.Helper(); a.refused(a.do("POST", path, "", body), 30001, "") }
	subject := func(nip, date string) object {
		return object{"subjectNip": nip, "subjectType": "JST", "description": "Podmiot testowy", "createdDate": date}
	}
	again("/testdata/subject", subject(nip, "2026-01-02T00:00:00Z"))
	again("/testdata/subject", subject(subunitNIP, "2026-01-02T00:00:00Z"))
	a.want(http.StatusOK, "POST", "/testdata/subject/remove", "", object{"subjectNip": nip})
	a.refused(a.do("POST", "/testdata/subject", "", subject(nip, "2026-01-01T00:00:00Z")), 21405, "createdDate")
	a.want(http.StatusOK, "POST", "/testdata/subject", "", subject(nip, "2026-01-02T00:00:00Z"))
	a.want(http.StatusOK, "POST", "/testdata/subject", "", subject(subunitNIP, "2026-01-02T00:00:00Z"))
	a.want(http.StatusOK, "POST", "/testdata/subject/remove", "", object{"subjectNip": otherNIP})

	a.createPerson(otherNIP, pesel, object{"createdDate": "2026-01-01T00:00:00Z"})
	someone := func(nip, pesel string) object {
		return object{"nip": nip, "pesel": pesel, "isBailiff": false, "description": "Osoba testowa"}
	}
	again("/testdata/person", someone(otherNIP, "90010112345"))
	again("/testdata/person", someone(nip, pesel))
	a.createPerson(nip, "90010112345", object{"createdDate": "2026-01-03T00:00:00Z"})
}

func TestTestdataInvalid(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	someone := object{"nip": nip, "pesel": pesel, "isBailiff": false, "description": "Osoba testowa"}
	subject := object{"subjectNip": nip, "subjectType": "JST", "description": "Podmiot testowy"}
	grant := testGrant(identifier("Nip", otherNIP), "InvoiceRead")
	context := object{"contextIdentifier": identifier("Nip", nip)}
	tests := []struct {
		path        string
		valid       object
		field, want string
		value       any
	}{
		{"subject", subject, "subjectNip", "subjectNip", "123"},
		{"subject", subject, "subjectType", "subjectType", "Jst"},
		{"subject", subject, "description", "description", ""},
		{"subject", subject, "createdDate", "createdDate", "yesterday"},
		{"subject", subject, "subunits", "subunits[0].subjectNip",
			[]object{{"subjectNip": "1", "description": "Jednostka"}}},
		{"subject", subject, "subunits", "subunits[0].description", []object{{"subjectNip": subunitNIP}}},
		{"subject", object{"subjectNip": nip, "subjectType": "EnforcementAuthority", "description": "Podmiot"},
			"subunits", "subunits",
			[]object{{"subjectNip": subunitNIP, "description": "Jednostka"}}},
		{"subject/remove", subject, "subjectNip", "subjectNip", nil},
		{"person", someone, "nip", "nip", "5265877636"},
		{"person", someone, "pesel", "pesel", "44991401359"},
		{"person", someone, "isBailiff", "isBailiff", nil},
		{"person", someone, "isBailiff", "isBailiff", "no"},
		{"person", someone, "description", "description", "abcd"},
		{"person/remove", someone, "nip", "nip", "1"},
		{"permissions", grant, "contextIdentifier", "contextIdentifier.type", identifier("InternalId", nip+"-12346")},
		{"permissions", grant, "authorizedIdentifier", "authorizedIdentifier.value", identifier("Fingerprint", nip)},
		{"permissions", grant, "permissions", "permissions", nil},
		{"permissions", grant, "permissions", "permissions[0]",
			[]object{{"permissionType": "VatUeManage", "description": "abcde"}}},
		{"permissions", grant, "permissions", "permissions[0].description",
			[]object{{"permissionType": "InvoiceRead"}}},
		{"permissions/revoke", grant, "authorizedIdentifier", "authorizedIdentifier", nil},
		{"context/block", context, "contextIdentifier", "contextIdentifier", nil},
		{"context/unblock", context, "contextIdentifier", "contextIdentifier.type", identifier("Pesel", pesel)},
	}
	for _, test := range tests {
		body := maps.Clone(test.valid)
		body[test.field] = test.value
		a.refused(a.do("POST", "/testdata/"+test.path, "", body), 21405, test.want)
		a.want(http.StatusUnsupportedMediaType, "POST", "/testdata/"+test.path, "", []byte("<x/>"))
	}
}
