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

// An access token keeps the permissions of its issue, whatever the source of its subject's rights.
// The next one has those that remain.
func TestPermissionAccessTokenKeepsItsPermissions(t *testing.T) {
	limited := simulator.Options{Limits: unlimited(), OwnerPermissions: []string{"InvoiceWrite"}}
	owns := func(a *api) { a.createPerson(nip, pesel, object{}) }
	tests := map[string]struct {
		options     simulator.Options
		prepare     func(a *api)
		lose        func(a *api)
		permissions string
		remaining   []any
	}{
		"the owner by its PESEL": {withoutRateLimits(), owns, func(a *api) {
			a.want(http.StatusOK, "POST", "/testdata/person/remove", "", object{"nip": nip})
		}, `["Owner"]`, []any{}},
		"the owner by its PESEL, limited": {limited, owns, func(a *api) {
			a.want(http.StatusOK, "POST", "/testdata/person/remove", "", object{"nip": nip})
		}, `["Owner"]`, []any{}},
		"a person without grants": {limited, func(*api) {}, func(a *api) {
			a.want(http.StatusOK, "POST", "/testdata/permissions", "",
				testGrant(identifier("Pesel", pesel), "InvoiceRead"))
		}, `["InvoiceRead", "InvoiceWrite", "CredentialsRead", "CredentialsManage", "SubunitManage",
			"EnforcementOperations", "Introspection", "CollectiveIdentifierManage"]`, []any{"InvoiceRead"}},
		"a person with a grant": {withoutRateLimits(), func(a *api) {
			a.want(http.StatusOK, "POST", "/testdata/permissions", "",
				testGrant(identifier("Pesel", pesel), "InvoiceWrite"))
		}, func(a *api) {
			a.want(http.StatusOK, "POST", "/testdata/permissions/revoke", "", testGrant(identifier("Pesel", pesel)))
		}, `["InvoiceWrite"]`, []any{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, test.options)
			test.prepare(a)
			maker := a.login(person(t), nipXML)
			require.JSONEq(t, test.permissions, claimsOf(t, maker.access)["per"].(string))
			_, token := a.issue(maker, "InvoiceWrite")
			a.sim.Advance(time.Second)
			withToken := a.redeem(a.beginWithToken(token))
			require.Equal(t, `["InvoiceWrite"]`, claimsOf(t, withToken.access)["pep"])

			test.lose(a)

			for s, remaining := range map[session][]any{maker: test.remaining, withToken: {}} {
				a.openInvoices(s)
				got := a.want(http.StatusForbidden, "POST", "/sessions/online", a.refresh(s).access,
					a.invoiceSessionRequest())
				require.Equal(t, remaining, got.body["security"].(object)["presentPermissions"])
			}
		})
	}
}

func TestPermissionOwnerOption(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: unlimited(), ActivationDelay: -1,
		OwnerPermissions: []string{"InvoiceRead", "CredentialsManage"}})
	a.createPerson(nip, pesel, object{})
	for _, owner := range []credential{seal(t), person(t)} {
		s := a.login(owner, nipXML)
		_, token := a.issue(s, "InvoiceRead")
		for access, present := range map[string][]any{
			s.access: {"InvoiceRead", "CredentialsManage"}, a.redeem(a.beginWithToken(token)).access: {"InvoiceRead"},
		} {
			got := a.want(http.StatusForbidden, "POST", "/sessions/online", access, a.invoiceSessionRequest())
			require.Equal(t, present, got.body["security"].(object)["presentPermissions"])
		}
	}
}
