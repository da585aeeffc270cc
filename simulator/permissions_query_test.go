// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestPermissionQueryFilters(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	a.want(http.StatusOK, "POST", "/testdata/permissions", "", testGrant(identifier("Pesel", pesel), "CredentialsRead"))
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "CredentialsManage")
	manager := a.login(company(t), nipXML)
	fingerprint := strings.Repeat("0A", 32)
	a.grant(manager, identifier("Fingerprint", fingerprint), "InvoiceRead", "InvoiceWrite")
	everything := []string{"CredentialsManage", "CredentialsRead", "InvoiceRead", "InvoiceWrite"}
	granted := []string{"CredentialsManage", "InvoiceRead", "InvoiceWrite"}
	tests := map[string]struct {
		filter object
		want   []string
	}{
		"in the context": {object{"queryType": "PermissionsInCurrentContext"}, everything},
		"granted in it":  {object{"queryType": "PermissionsGrantedInCurrentContext"}, granted},
		"author": {object{"authorIdentifier": identifier("Nip", otherNIP)},
			[]string{"InvoiceRead", "InvoiceWrite"}},
		"author KSeF": {object{"authorIdentifier": object{"type": "System"},
			"queryType": "PermissionsInCurrentContext"}, []string{"CredentialsRead"}},
		"author KSeF, granted": {object{"authorIdentifier": object{"type": "System"}}, nil},
		"authorized": {object{"authorizedIdentifier": identifier("Fingerprint", fingerprint)},
			[]string{"InvoiceRead", "InvoiceWrite"}},
		"authorized, none": {object{"authorizedIdentifier": identifier("Nip", nip)}, nil},
		"context":          {object{"contextIdentifier": identifier("Nip", nip)}, granted},
		"another context":  {object{"contextIdentifier": identifier("Nip", otherNIP)}, nil},
		"target":           {object{"targetIdentifier": identifier("Nip", nip)}, granted},
		"another target":   {object{"targetIdentifier": identifier("InternalId", nip+"-12346")}, nil},
		"all partners":     {object{"targetIdentifier": object{"type": "AllPartners"}}, nil},
		"types": {object{"permissionTypes": []string{"InvoiceRead", "CredentialsManage"}},
			[]string{"CredentialsManage", "InvoiceRead"}},
		"no types": {object{"permissionTypes": []string{}}, granted},
		"active":   {object{"permissionState": "Active"}, granted},
		"inactive": {object{"permissionState": "Inactive"}, nil},
		"everything left empty": {object{"authorIdentifier": nil, "targetIdentifier": nil, "permissionTypes": nil,
			"permissionState": nil}, granted},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.ElementsMatch(t, test.want, scopes(a.withT(t).granted(owner, test.filter)))
		})
	}
	newest := a.granted(owner, object{})[0]
	require.Equal(t, identifier("Nip", otherNIP), newest["authorIdentifier"])
	require.Equal(t, identifier("Fingerprint", fingerprint), newest["authorizedIdentifier"])
	require.Equal(t, grantText, newest["description"])
	require.Equal(t, false, newest["canDelegate"])
	require.Equal(t, "Anna", newest["subjectPersonDetails"].(object)["firstName"])
}

func TestPermissionQueryPersonalOwn(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	require.Empty(t, a.personal(owner, object{}), "what an owner may do is not granted")
	require.Equal(t, 200,
		a.awaitOperation(owner, a.do("POST", "/permissions/entities/grants", owner.access, entityGrant(otherNIP))))
	a.grant(owner, identifier("Nip", otherNIP), "CredentialsRead")
	a.grant(owner, identifier("Pesel", pesel), "CredentialsManage")

	grantee := a.login(company(t), nipXML)
	found := a.personal(grantee, nil)
	require.Len(t, found, 3)
	require.Equal(t, "CredentialsRead", found[0]["permissionScope"], "the newest comes first")
	require.Equal(t, map[string]bool{"InvoiceRead": true, "InvoiceWrite": false}, map[string]bool{
		found[1]["permissionScope"].(string): found[1]["canDelegate"].(bool),
		found[2]["permissionScope"].(string): found[2]["canDelegate"].(bool),
	})
	require.Equal(t, identifier("Nip", nip), found[1]["contextIdentifier"])
	require.Equal(t, "Testowo", found[1]["subjectEntityDetails"].(object)["fullName"])
	require.Nil(t, found[1]["authorizedIdentifier"])
	filter := object{
		"contextIdentifier": identifier("Nip", nip), "targetIdentifier": identifier("Nip", nip),
		"permissionTypes": []string{"InvoiceRead", "VatUeManage"}, "permissionState": "Active",
	}
	require.Equal(t, []string{"InvoiceRead"}, scopes(a.personal(grantee, filter)))

	// In its own context the company finds what others have granted it for their invoices.
	own := "<Nip>" + otherNIP + "</Nip>"
	require.ElementsMatch(t, []string{"InvoiceRead", "InvoiceWrite"},
		scopes(a.personal(a.login(company(t), own), object{})))
	require.Empty(t, a.personal(a.login(person(t), own), object{}), "only its owner finds them")
	a.createPerson(otherNIP, pesel, object{})
	byPESEL := a.personal(a.login(person(t), own), object{})
	require.Len(t, byPESEL, 2)
	require.Equal(t, identifier("Nip", otherNIP), byPESEL[0]["authorizedIdentifier"])

	// The query has the current grants, not those of the access token.
	a.want(http.StatusOK, "POST", "/testdata/permissions/revoke", "", testGrant(identifier("Nip", otherNIP)))
	require.Empty(t, a.personal(grantee, object{}))
}

func TestPermissionQueryPages(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: unlimited(), GrantDelay: -1})
	owner := a.login(seal(t), nipXML)
	for i := range 12 {
		to := identifier("Fingerprint", fmt.Sprintf("%064X", i))
		a.want(http.StatusAccepted, "POST", "/permissions/persons/grants", owner.access,
			personGrant(to, "InvoiceRead", "InvoiceWrite"))
		a.sim.Advance(time.Second)
	}
	var ids, starts []string
	for page, want := range []struct {
		count int
		more  bool
	}{{10, true}, {10, true}, {4, false}, {0, false}} {
		path := fmt.Sprintf("%s?pageSize=10&pageOffset=%d", personsQuery, page)
		got := a.want(http.StatusOK, "POST", path, owner.access, object{"queryType": "PermissionsInCurrentContext"})
		require.Len(t, got.list("permissions"), want.count)
		require.Equal(t, want.more, got.body["hasMore"])
		for _, g := range got.list("permissions") {
			ids, starts = append(ids, g["id"].(string)), append(starts, g["startDate"].(string))
		}
	}
	require.True(t, slices.IsSortedFunc(starts, func(a, b string) int { return strings.Compare(b, a) }))
	for i := 0; i < len(ids); i += 2 {
		require.Less(t, ids[i], ids[i+1], "those begun together are in the order of their identifiers")
	}
	for _, query := range []string{"pageSize=9", "pageSize=101", "pageSize=x", "pageOffset=-1", "pageOffset=x"} {
		for _, path := range []string{personsQuery, personalQuery} {
			name, _, _ := strings.Cut(query, "=")
			body := object{"queryType": "PermissionsInCurrentContext"}
			a.refused(a.do("POST", path+"?"+query, owner.access, body), 21405, name)
		}
	}
}

func TestPermissionQueryInvalid(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	for field, value := range map[string]any{
		"queryType":                 "All",
		"permissionTypes":           []string{"VatUeManage", "Everything"},
		"permissionState":           "active?",
		"authorIdentifier.type":     identifier("Unknown", nip),
		"authorIdentifier.value":    identifier("Nip", "1"),
		"authorizedIdentifier.type": identifier("System", ""),
		"contextIdentifier.type":    identifier("NipVatUe", nip),
		"targetIdentifier.value":    object{"type": "Nip"},
	} {
		name, _, _ := strings.Cut(field, ".")
		body := object{"queryType": "PermissionsInCurrentContext"}
		body[name] = value
		a.refused(a.do("POST", personsQuery, owner.access, body), 21405, field)
	}
	a.refused(a.do("POST", personsQuery, owner.access, object{}), 21405, "queryType")
	a.refused(a.do("POST", personsQuery, owner.access, object{"permissionTypes": ""}), 21405, "Pole permissionTypes")
	a.refused(a.do("POST", personalQuery, owner.access, object{"permissionTypes": []string{"Owner"}}), 21405,
		"permissionTypes")
	a.refused(a.do("POST", personalQuery, owner.access, object{"permissionTypes": "InvoiceRead"}), 21405,
		"permissionTypes")
	a.want(http.StatusUnsupportedMediaType, "POST", personsQuery, owner.access, []byte("<x/>"))
}
