// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// The official C# client's KsefTokenE2ETests reads another token's status in a token's session;
// changelog 2.4.0 says that it cannot.
func TestSwitchTokensReadOthers(t *testing.T) {
	for reads, want := range map[bool]int{false: http.StatusForbidden, true: http.StatusOK} {
		a := newAPI(t, simulator.Options{TokensReadOthers: reads, ActivationDelay: -1})
		owner := a.login(seal(t), nipXML)
		other, _ := a.issue(owner, "InvoiceRead")
		own, token := a.issue(owner, "InvoiceRead")
		s := a.redeem(a.beginWithToken(token))
		a.want(want, "GET", "/tokens/"+other, s.access, nil)
		a.want(http.StatusOK, "GET", "/tokens/"+own, s.access, nil)
		a.want(http.StatusForbidden, "DELETE", "/tokens/"+other, s.access, nil)
		listed, _ := a.list("/tokens", s.access, "tokens", "referenceNumber")
		require.Equal(t, []string{own}, listed)
	}
}

// TEST allows it, pre-production does not (ksef-api issues 608 and 659).
func TestSwitchTokensMayNotQueryCertificates(t *testing.T) {
	for forbidden, want := range map[bool]int{false: http.StatusOK, true: http.StatusForbidden} {
		a := newAPI(t, simulator.Options{TokensMayNotQueryCertificates: forbidden})
		owner := a.login(seal(t), nipXML)
		got := a.want(want, "POST", "/certificates/query", a.tokenSession(owner).access, map[string]any{})
		if forbidden {
			require.Equal(t, "auth-method-not-allowed", got.text("reasonCode"))
		}
		a.query(owner, "", map[string]any{})
	}
}

func TestSwitchOmitAuthenticationMethod(t *testing.T) {
	for omitted, want := range map[bool]string{false: "QualifiedSeal", true: ""} {
		a := newAPI(t, simulator.Options{OmitAuthenticationMethod: omitted})
		o := a.begin(seal(t), nipXML)
		got := a.want(http.StatusOK, "GET", "/auth/"+o.reference, o.token, nil)
		listed := a.want(http.StatusOK, "GET", "/auth/sessions", a.redeem(o).access, nil).list("items")
		for _, body := range []map[string]any{got.body, listed[0]} {
			method, there := body["authenticationMethod"]
			require.Equal(t, !omitted, there)
			if there {
				require.Equal(t, want, method)
			}
			require.Contains(t, body, "authenticationMethodInfo")
		}
	}
}

// The OpenAPI suggests 401; 403 without a body has been seen (ksef-api issues 129 and 628).
func TestSwitchForbidOtherJWTs(t *testing.T) {
	for forbidden, want := range map[bool]int{false: http.StatusUnauthorized, true: http.StatusForbidden} {
		a := newAPI(t, simulator.Options{ForbidOtherJWTs: forbidden})
		o := a.begin(seal(t), nipXML)
		s := a.redeem(o)
		for _, jwt := range []string{o.token, s.refresh} {
			got := a.want(want, "GET", "/tokens", jwt, nil)
			require.Equal(t, forbidden, got.body == nil)
		}
		a.want(want, "POST", "/auth/token/refresh", s.access, nil)
		a.want(want, "GET", "/auth/"+o.reference, s.access, nil)
		for _, jwt := range []string{"", "nonsense", s.access + "A"} {
			a.want(http.StatusUnauthorized, "GET", "/tokens", jwt, nil)
			a.want(http.StatusUnauthorized, "POST", "/auth/token/refresh", jwt, nil)
		}
	}
}
