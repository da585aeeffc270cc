// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestPermissionGrantTakesEffectWithOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{GrantDelay: 5 * time.Second})
		owner := a.login(seal(t), nipXML)
		require.Equal(t, 415, a.loginCode(company(t)))
		begun := a.want(http.StatusAccepted, "POST", "/permissions/persons/grants", owner.access,
			personGrant(identifier("Nip", otherNIP), "InvoiceRead"))
		time.Sleep(4 * time.Second)
		require.Equal(t, 100, a.operationCode(owner, begun.text("referenceNumber")))
		require.Equal(t, 415, a.loginCode(company(t)))
		require.Empty(t, a.granted(owner, object{}))
		require.Empty(t, a.sim.State().Grants)
		time.Sleep(time.Second)
		require.Equal(t, 200, a.operationCode(owner, begun.text("referenceNumber")))
		require.Equal(t, 200, a.loginCode(company(t)))
		require.Len(t, a.granted(owner, object{}), 1)
		require.Len(t, a.sim.State().Grants, 1)

		id := a.sim.State().Grants[0].PermissionID
		begun = a.want(http.StatusAccepted, "DELETE", "/permissions/common/grants/"+id, owner.access, nil)
		require.Equal(t, 200, a.loginCode(company(t)))
		time.Sleep(5 * time.Second)
		require.Equal(t, 200, a.operationCode(owner, begun.text("referenceNumber")))
		require.Equal(t, 415, a.loginCode(company(t)))
		require.Empty(t, a.sim.State().Grants)
	})
}

// This is RevokedPermissionsKsefTokenLifecycleIntegrationTests with a query in place of the invoice
// session.
func TestPermissionRevokedLostWithNextAccessToken(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead", "CredentialsRead")
	_, token := a.issue(a.login(company(t), nipXML), "InvoiceRead", "CredentialsRead")
	a.sim.Advance(time.Second)
	employee := a.redeem(a.beginWithToken(token))
	require.Len(t, a.granted(employee, object{}), 2)

	a.revokeGrants(owner)

	a.want(http.StatusOK, "POST", personsQuery, employee.access, object{"queryType": "PermissionsInCurrentContext"})
	refreshed := a.refresh(employee)
	got := a.want(http.StatusForbidden, "POST", personsQuery, refreshed.access,
		object{"queryType": "PermissionsInCurrentContext"})
	require.Equal(t, "missing-permissions", got.text("reasonCode"))
	require.Equal(t, []any{}, got.body["security"].(object)["presentPermissions"])
	code, detail := a.status(a.beginWithToken(token))
	require.Equal(t, 415, code)
	require.Equal(t, "Brak przypisanych uprawnień", detail)
}

func TestPermissionRevokedFromTokensMaker(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Pesel", pesel), "InvoiceRead", "CredentialsRead")
	maker := a.login(person(t), nipXML)
	body := object{"permissions": []string{"InvoiceRead", "InvoiceWrite"}, "description": "Token testowy"}
	a.refused(a.do("POST", "/tokens", maker.access, body), 26001, "InvoiceWrite")
	_, token := a.issue(maker, "InvoiceRead", "CredentialsRead")
	a.sim.Advance(time.Second)
	require.Len(t, a.granted(a.redeem(a.beginWithToken(token)), object{}), 2)

	id := a.granted(owner, object{"permissionTypes": []string{"CredentialsRead"}})[0]["id"].(string)
	require.Equal(t, 200, a.awaitOperation(owner, a.do("DELETE", "/permissions/common/grants/"+id, owner.access, nil)))

	got := a.want(http.StatusForbidden, "POST", personsQuery, a.redeem(a.beginWithToken(token)).access, object{})
	require.Equal(t, []any{"InvoiceRead"}, got.body["security"].(object)["presentPermissions"])
}

func TestPermissionPersonOnceGrantedHasOnlyThat(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	body := object{"permissions": []string{"InvoiceWrite"}, "description": "Token testowy"}
	a.want(http.StatusAccepted, "POST", "/tokens", a.login(person(t), nipXML).access, body)
	a.grant(owner, identifier("Pesel", pesel), "InvoiceRead")
	a.refused(a.do("POST", "/tokens", a.login(person(t), nipXML).access, body), 26001, "InvoiceWrite")
	a.revokeGrants(owner)
	require.Equal(t, 415, a.loginCode(person(t)))
}

// This is forbiddenTest of ExceptionsApiIntegrationTest.
func TestPermissionMissingNamed(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	require.Equal(t, 200,
		a.awaitOperation(owner, a.do("POST", "/permissions/entities/grants", owner.access, entityGrant(otherNIP))))
	grantee := a.login(company(t), nipXML)
	requests := map[string][]any{
		"POST /permissions/entities/grants":          {"CredentialsManage"},
		"POST /permissions/persons/grants":           {"CredentialsManage"},
		"POST " + personsQuery:                       {"CredentialsManage", "CredentialsRead", "SubunitManage"},
		"DELETE /permissions/common/grants/whatever": {"CredentialsManage", "VatUeManage", "SubunitManage"},
	}
	for name, required := range requests {
		method, path, _ := strings.Cut(name, " ")
		got := a.want(http.StatusForbidden, method, path, grantee.access, entityGrant(otherNIP))
		require.Equal(t, "missing-permissions", got.text("reasonCode"))
		security := got.body["security"].(object)
		require.Equal(t, required, security["requiredAnyOfPermissions"])
		require.Equal(t, []any{"InvoiceRead", "InvoiceWrite"}, security["presentPermissions"])
	}
	a.want(http.StatusUnauthorized, "POST", "/permissions/entities/grants", "invalidToken", entityGrant(otherNIP))
}

// Every endpoint requires the permissions that the OpenAPI names.
func TestContractRequiredPermissions(t *testing.T) {
	contract, err := loadContract()
	require.NoError(t, err)
	if contract == nil {
		return // the checks are off
	}
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead")
	unprivileged := a.login(company(t), nipXML)
	a.revokeGrants(owner)
	unprivileged = a.refresh(unprivileged)
	served := 0
	for template, item := range contract.Paths.Map() {
		path := regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(template, "20250626-EG-333C814000-C529F710D8-D2")
		for method, operation := range item.Operations() {
			names, _ := operation.Extensions["x-required-permissions"].([]any)
			if len(names) == 0 {
				continue
			}
			got := a.do(method, path, unprivileged.access, nil)
			if got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed {
				continue // not served
			}
			served++
			require.Equal(t, http.StatusForbidden, got.status, "%s %s", method, path)
			required := got.body["security"].(object)["requiredAnyOfPermissions"]
			require.ElementsMatch(t, names, required, "%s %s", method, path)
		}
	}
	require.Equal(t, 12, served)
}

func TestPermissionGrantBeyondOwn(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "CredentialsManage")
	manager := a.login(company(t), nipXML)
	a.grant(manager, identifier("Pesel", pesel), "InvoiceWrite", "SubunitManage")
	require.Len(t, a.granted(manager, object{"authorIdentifier": identifier("Nip", otherNIP)}), 2)
	a.issue(a.login(person(t), nipXML), "InvoiceWrite", "SubunitManage")
}

func TestPermissionOperationOutcomes(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead")
	id := a.granted(owner, object{})[0]["id"].(string)
	grantTo := func(to object, permission string) response {
		return a.do("POST", "/permissions/persons/grants", owner.access, personGrant(to, permission))
	}
	revoke := func(s session, id string) response {
		return a.do("DELETE", "/permissions/common/grants/"+id, s.access, nil)
	}

	require.Equal(t, 430, a.awaitOperation(owner, grantTo(identifier("Nip", otherNIP), "EnforcementOperations")))
	require.Equal(t, 450, a.awaitOperation(owner, grantTo(identifier("Nip", nip), "InvoiceRead")))
	require.Equal(t, 400, a.awaitOperation(owner, revoke(owner, strings.Repeat("0", 36))))
	stranger := a.login(company(t), "<Nip>"+otherNIP+"</Nip>")
	require.Equal(t, 400, a.awaitOperation(stranger, revoke(stranger, id)))
	require.Len(t, a.granted(owner, object{}), 1)
	require.Equal(t, 200, a.awaitOperation(owner, revoke(owner, id)))
	require.Equal(t, 400, a.awaitOperation(owner, revoke(owner, id)))

	euro := a.login(seal(t), "<NipVatUe>"+nip+"-DE123456789</NipVatUe>")
	require.Equal(t, 430,
		a.awaitOperation(euro, a.do("POST", "/permissions/entities/grants", euro.access, entityGrant(otherNIP))))
	unit := a.login(seal(t), "<InternalId>"+nip+"-12346</InternalId>")
	require.Equal(t, 200,
		a.awaitOperation(unit, a.do("POST", "/permissions/entities/grants", unit.access, entityGrant(nip))))

	a.grant(owner, identifier("Nip", otherNIP), "SubunitManage")
	id = a.granted(owner, object{})[0]["id"].(string)
	subunits := a.login(company(t), nipXML)
	require.Equal(t, 420, a.awaitOperation(subunits, revoke(subunits, id)))
	a.refused(revoke(owner, "short"), 21405, "36")
}

func TestPermissionOperationKnownThirtyDaysInContext(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	begun := a.do("POST", "/permissions/persons/grants", owner.access,
		personGrant(identifier("Nip", otherNIP), "InvoiceRead"))
	require.Equal(t, 200, a.awaitOperation(owner, begun))
	path := "/permissions/operations/" + begun.text("referenceNumber")
	a.refused(a.do("GET", path, a.login(company(t), "<Nip>"+otherNIP+"</Nip>").access, nil), 21405,
		begun.text("referenceNumber"))
	a.refused(a.do("GET", "/permissions/operations/nonsense", owner.access, nil), 21405, "Numer referencyjny")
	a.sim.Advance(30*24*time.Hour - 2*time.Second)
	later := a.login(seal(t), nipXML)
	a.want(http.StatusOK, "GET", path, later.access, nil)
	a.sim.Advance(time.Second)
	a.want(http.StatusGone, "GET", path, later.access, nil)
}

func TestPermissionGrantTwiceIsOne(t *testing.T) {
	a := newAPI(t, withoutRateLimits())
	owner := a.login(seal(t), nipXML)
	a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead")
	a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead", "InvoiceWrite")
	require.ElementsMatch(t, []string{"InvoiceRead", "InvoiceWrite"}, scopes(a.granted(owner, object{})))
	a.revokeGrants(owner)
	require.Equal(t, 415, a.loginCode(company(t)))
	a.grant(owner, identifier("Nip", otherNIP), "InvoiceRead")
	require.Equal(t, 200, a.loginCode(company(t)))
	require.Equal(t, 200,
		a.awaitOperation(owner, a.do("POST", "/permissions/entities/grants", owner.access, entityGrant(otherNIP))))
	require.ElementsMatch(t, []string{"InvoiceRead", "InvoiceRead", "InvoiceWrite"}, scopes(a.granted(owner, object{})))
}
