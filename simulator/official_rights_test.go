// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"maps"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// bothFormats runs a test of ExceptionsApiIntegrationTest with problem details and, as the test
// named "OldWay", without.
func bothFormats(t *testing.T, name string, test func(t *testing.T, o official)) {
	t.Run(name, func(t *testing.T) { test(t, newOfficial(t)) })
	t.Run(name+"OldWay", func(t *testing.T) {
		o := newOfficial(t)
		o.oldErrors()
		test(t, o)
	})
}

func TestExceptionsApiIntegrationTest(t *testing.T) {
	const path = "/permissions/entities/grants"
	bothFormats(t, "forbiddenTest", func(t *testing.T, o official) {
		taxpayer, subject := o.nip(), o.nip()
		o.operation(o.auth(taxpayer, taxpayer), "POST", path, entityGrant(subject))
		got := o.want(http.StatusForbidden, "POST", path, o.auth(taxpayer, subject).access, entityGrant(o.nip()))
		requireProblem(t, got, "Forbidden", "Brak wymaganych uprawnień do wykonania operacji w bieżącym kontekście.")
		require.Equal(t, "missing-permissions", got.text("reasonCode"))
		security := got.body["security"].(map[string]any)
		require.Contains(t, security["requiredAnyOfPermissions"], "CredentialsManage")
		require.ElementsMatch(t, []any{"InvoiceRead", "InvoiceWrite"}, security["presentPermissions"])
	})
	bothFormats(t, "unauthorizedTest", func(t *testing.T, o official) {
		got := o.want(http.StatusUnauthorized, "POST", path, "invalidToken", entityGrant(o.nip()))
		requireProblem(t, got, "Unauthorized", "Wymagane jest uwierzytelnienie.")
	})
	bothFormats(t, "badRequestTest", func(t *testing.T, o official) {
		taxpayer := o.nip()
		limits := object{"onlineSession": windows(1, 1, 11111111), "batchSession": nil}
		got := o.want(http.StatusBadRequest, "POST", "/testdata/rate-limits", o.auth(taxpayer, taxpayer).access,
			object{"rateLimits": limits})
		description := "description"
		if o.header.Get("X-Error-Format") != "" {
			requireProblem(t, got, "Bad Request", "Żądanie jest nieprawidłowe.")
		} else {
			description = "exceptionDescription"
			require.NotEmpty(t, got.text("exception.timestamp"))
			require.NotEmpty(t, got.text("exception.serviceCode"))
		}
		code, _ := got.code()
		require.Equal(t, 21405, code)
		fault, _ := got.errorObject()
		require.Equal(t, "Błąd walidacji danych wejściowych.", fault[description])
		details := got.details()
		require.Len(t, details, 11)
		require.Contains(t, details,
			"'rateLimits.onlineSession.perHour' must be between 1 and 1200. You entered 11111111.")
		require.Contains(t, details, "'rateLimits.batchSession' must not be empty.")
	})
}

// requireProblem checks what the official tests check in every problem.
func requireProblem(t *testing.T, got response, title, detail string) {
	t.Helper()
	require.Equal(t, title, got.text("title"))
	require.Equal(t, detail, got.text("detail"))
	require.Equal(t, got.status, got.number("status"))
	for _, field := range []string{"instance", "traceId", "timestamp"} {
		require.NotEmpty(t, got.text(field), field)
	}
}

func TestSearchPersonalGrantPermissionIntegrationTest(t *testing.T) {
	t.Run("searchPersonalPermissionTest", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer, subject := o.nip(), o.nip()
		identifiers := object{"contextIdentifier": identifier("Nip", taxpayer),
			"authorizedIdentifier": identifier("Nip", subject)}
		grant := maps.Clone(identifiers)
		grant["permissions"] = []object{{"description": "test-e2e", "permissionType": "InvoiceRead"}}
		o.want(http.StatusOK, "POST", "/testdata/permissions", "", grant)
		s := o.auth(taxpayer, subject)
		require.NotEmpty(t, o.personal(s, object{}))
		o.want(http.StatusOK, "POST", "/testdata/permissions/revoke", "", identifiers)
	})
}

// TestRevokedPermissionsKsefTokenLifecycleIntegrationTests is the official test of a token whose
// maker has lost permissions.
func TestRevokedPermissionsKsefTokenLifecycleIntegrationTests(t *testing.T) {
	t.Run("revokedPermissions_OldAccessTokenStillWorks_ButRefreshAndReauthenticationLoseAccess", func(t *testing.T) {
		o := newOfficial(t)
		taxpayer, employee := o.nip(), o.nip()
		ownerSession := o.auth(taxpayer, taxpayer)
		o.operation(ownerSession, "POST", "/permissions/persons/grants",
			personGrant(identifier("Nip", employee), "InvoiceWrite", "InvoiceRead"))
		employeeSession := o.auth(taxpayer, employee)
		reference, token := o.issue(employeeSession, "InvoiceRead", "InvoiceWrite")
		o.awaitToken(employeeSession, reference, "Active")
		begun, code := o.authWithToken(taxpayer, token)
		require.Equal(t, http.StatusOK, code)
		s := o.redeem(begun)
		o.openInvoices(s)

		granted := o.granted(ownerSession, object{"permissionTypes": []string{"InvoiceWrite", "InvoiceRead"}})
		require.Len(t, granted, 2)
		for _, permission := range granted {
			require.Equal(t, grantText, permission["description"])
			o.operation(ownerSession, "DELETE", "/permissions/common/grants/"+permission["id"].(string), nil)
		}

		o.openInvoices(s)
		o.want(http.StatusForbidden, "POST", "/sessions/online", o.refresh(s).access, o.invoiceSessionRequest())
		_, code = o.authWithToken(taxpayer, token)
		require.Equal(t, 415, code)
	})
}
