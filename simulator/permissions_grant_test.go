// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// details returns the subjectDetails of a person, with some fields replaced.
func details(kind, field string, changed object) object {
	described := object{
		"firstName": "Anna", "lastName": "Testowa", "identifier": identifier("Nip",
			otherNIP), "birthDate": "1990-01-02",
		"idDocument": object{"type": "passport", "number": "AB1", "country": "DE"},
	}
	maps.Copy(described, changed)
	return object{"subjectDetailsType": kind, field: described}
}

func TestPermissionGrantPersonInvalid(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	const (
		byID      = "PersonByIdentifier"
		withID    = "PersonByFingerprintWithIdentifier"
		withoutID = "PersonByFingerprintWithoutIdentifier"
	)
	tests := map[string]object{
		"subjectIdentifier jest wymagane":      {"subjectIdentifier": nil},
		"subjectIdentifier.type":               {"subjectIdentifier": identifier("InternalId", nip)},
		"subjectIdentifier.value":              {"subjectIdentifier": identifier("Nip", "5265877636")},
		"permissions musi":                     {"permissions": []string{}},
		"permissions[1]":                       {"permissions": []string{"InvoiceRead", "VatUeManage"}},
		"więcej niż raz":                       {"permissions": []string{"InvoiceRead", "InvoiceRead"}},
		"permissions może zawierać najwyżej 8": {"permissions": slices.Repeat([]string{"InvoiceRead"}, 9)},
		"permissions ma nieprawidłowy typ":     {"permissions": "InvoiceRead"},
		"description":                          {"description": "abcd"},
		"subjectDetails jest wymagane":         {"subjectDetails": nil},
		"subjectDetailsType":                   {"subjectDetails": object{"subjectDetailsType": "Unknown"}},
		"subjectDetails.personById jest":       {"subjectDetails": object{"subjectDetailsType": byID}},
		"personById.firstName": {"subjectDetails": details(byID, "personById",
			object{"firstName": "A"})},
		"personById.lastName": {"subjectDetails": details(byID, "personById",
			object{"lastName": strings.Repeat("ą", 82)})},
		"personByFpWithId jest": {"subjectDetails": details(withID, "personById", nil)},
		"personByFpWithId.identifier jest": {"subjectDetails": details(withID, "personByFpWithId",
			object{"identifier": nil})},
		"personByFpWithId.identifier.type": {"subjectDetails": details(withID, "personByFpWithId",
			object{"identifier": identifier("Fingerprint", nip)})},
		"personByFpNoId.birthDate": {"subjectDetails": details(withoutID, "personByFpNoId",
			object{"birthDate": "2.01.1990"})},
		"personByFpNoId.idDocument jest wymagane": {"subjectDetails": details(withoutID, "personByFpNoId",
			object{"idDocument": nil})},
		"subjectDetails.personByFpNoId.idDocument.co": {"subjectDetails": details(withoutID, "personByFpNoId",
			object{"idDocument": object{"type": "x", "number": "y", "country": "de"}})},
	}
	for want, changed := range tests {
		t.Run(want, func(t *testing.T) {
			body := personGrant(identifier("Nip", otherNIP), "InvoiceRead")
			maps.Copy(body, changed)
			a := a.withT(t)
			a.refused(a.do("POST", "/permissions/persons/grants", owner.access, body), 21405, want)
		})
	}
	got := a.do("POST", "/permissions/persons/grants", owner.access, object{})
	for _, field := range []string{"subjectIdentifier", "permissions", "description", "subjectDetails"} {
		a.refused(got, 21405, field)
	}
	a.want(http.StatusUnsupportedMediaType, "POST", "/permissions/persons/grants", owner.access, []byte("<x/>"))
}

func TestPermissionGrantEntityInvalid(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	for want, changed := range map[string]object{
		"subjectIdentifier.type":       {"subjectIdentifier": identifier("Pesel", pesel)},
		"permissions[0]":               {"permissions": []object{{"type": "CredentialsManage"}}},
		"permissions musi":             {"permissions": nil},
		"description":                  {"description": strings.Repeat("a", 257)},
		"subjectDetails.fullName":      {"subjectDetails": object{"fullName": "abcd"}},
		"subjectDetails jest wymagane": {"subjectDetails": nil},
	} {
		t.Run(want, func(t *testing.T) {
			body := entityGrant(otherNIP)
			maps.Copy(body, changed)
			a := a.withT(t)
			a.refused(a.do("POST", "/permissions/entities/grants", owner.access, body), 21405, want)
		})
	}
}

func TestPermissionGrantDetailsReturned(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	fingerprint := identifier("Fingerprint", strings.Repeat("0A", 32))
	tests := map[string]struct {
		field, permission string
		want              object
	}{
		"PersonByIdentifier": {"personById", "InvoiceRead", object{}},
		"PersonByFingerprintWithIdentifier": {"personByFpWithId", "InvoiceWrite",
			object{"personIdentifier": identifier("Nip", otherNIP)}},
		"PersonByFingerprintWithoutIdentifier": {"personByFpNoId", "Introspection", object{
			"birthDate": "1990-01-02", "idDocument": object{"type": "passport", "number": "AB1", "country": "DE"},
		}},
	}
	for kind, test := range tests {
		body := personGrant(fingerprint, test.permission)
		body["subjectDetails"] = details(kind, test.field, nil)
		require.Equal(t, 200, a.awaitOperation(owner, a.do("POST", "/permissions/persons/grants", owner.access, body)))
		found := a.granted(owner, object{"permissionTypes": []string{test.permission}})
		require.Len(t, found, 1)
		maps.Copy(test.want, object{"subjectDetailsType": kind, "firstName": "Anna", "lastName": "Testowa"})
		require.Equal(t, test.want, found[0]["subjectPersonDetails"])
	}
}
