// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

func TestTokenPendingToRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{ActivationDelay: time.Minute, RevocationDelay: time.Minute})
		s := a.login(seal(t), nipXML)
		reference, token := a.issue(s, "InvoiceRead", "InvoiceWrite")
		require.Regexp(t, "^"+reference+`\|nip-5265877635\|[0-9a-f]{64}$`, token)

		time.Sleep(time.Minute - time.Nanosecond)
		require.Equal(t, "Pending", a.tokenStatus(s, reference))
		time.Sleep(time.Nanosecond)
		require.Equal(t, "Active", a.tokenStatus(s, reference))
		a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, s.access, nil)
		require.Equal(t, "Revoking", a.tokenStatus(s, reference))
		a.sim.Advance(time.Minute)
		require.Equal(t, "Revoked", a.tokenStatus(s, reference))
	})
}

func TestTokenActivationFails(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: time.Hour})
	s := a.login(seal(t), nipXML)
	require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "POST /tokens", Kind: simulator.FaultFailActivation}))
	failing, _ := a.issue(s, "InvoiceRead")
	active, _ := a.issue(s, "InvoiceRead")
	require.Equal(t, "Pending", a.tokenStatus(s, failing))
	a.sim.Advance(time.Hour)
	s.access = a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh, nil).text("accessToken.token")
	require.Equal(t, "Failed", a.tokenStatus(s, failing))
	require.Equal(t, "Active", a.tokenStatus(s, active))
}

func TestTokenRefusalCodes(t *testing.T) {
	a := newAPI(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}})
	s := a.login(seal(t), nipXML)
	body := func(description string, permissions ...string) map[string]any {
		return map[string]any{"permissions": permissions, "description": description}
	}
	a.refused(a.do("POST", "/tokens", s.access, body("Token testowy", "InvoiceRead", "InvoiceWrite")), 26001,
		"InvoiceWrite")
	a.refused(a.do("POST", "/tokens", s.access, body("Token testowy", "Everything")), 21405, "Everything")
	a.refused(a.do("POST", "/tokens", s.access, body("Token testowy")), 21405, "permissions")
	a.refused(a.do("POST", "/tokens", s.access, body("1234", "InvoiceRead")), 21405, "description")
	a.refused(a.do("POST", "/tokens", s.access, body(strings.Repeat("ó", 257), "InvoiceRead")), 21405, "description")
	a.want(http.StatusAccepted, "POST", "/tokens", s.access, body(strings.Repeat("ó", 256), "InvoiceRead"))
	a.want(http.StatusUnsupportedMediaType, "POST", "/tokens", s.access, []byte("{}"))

	vat := a.login(seal(t), "<NipVatUe>5265877635-DE123456789</NipVatUe>")
	a.refused(a.do("POST", "/tokens", vat.access, body("Token testowy", "InvoiceRead")), 26002, "NipVatUe")
}

func TestSwitchTokensMayIssueTokens(t *testing.T) {
	body := map[string]any{"permissions": []string{"InvoiceRead"}, "description": "Token testowy"}
	login := func(options simulator.Options) (*api, session) {
		options.ActivationDelay = -1
		a := newAPI(t, options)
		_, token := a.issue(a.login(seal(t), nipXML), "InvoiceRead")
		return a, a.redeem(a.beginWithToken(token))
	}
	a, s := login(simulator.Options{})
	got := a.want(http.StatusForbidden, "POST", "/tokens", s.access, body)
	require.Equal(t, "auth-method-not-allowed", got.text("reasonCode"))
	require.Equal(t, "Token", got.text("security.authenticationMethodCategory"))

	a, s = login(simulator.Options{TokensMayIssueTokens: true})
	a.want(http.StatusAccepted, "POST", "/tokens", s.access, body)
}

func TestTokenOwnOnlyWithoutCredentialsPermissions(t *testing.T) {
	person := newCredential(t, simulator.CertificateOptions{PESEL: "44051401359"})
	a := newAPI(t, simulator.Options{ActivationDelay: -1, Grants: []simulator.Grant{{
		Identifier:  simulator.Identifier{Type: "Pesel", Value: "44051401359"},
		Context:     simulator.Identifier{Type: "Nip", Value: nip},
		Permissions: []string{"InvoiceRead"},
	}}})
	owner, helper := a.login(seal(t), nipXML), a.login(person, nipXML)
	ofOwner, tokenOfOwner := a.issue(owner, "InvoiceRead")
	ofHelper, _ := a.issue(helper, "InvoiceRead")
	byToken := a.redeem(a.beginWithToken(tokenOfOwner))

	visible := func(s session) []string {
		references, _ := a.list("/tokens", s.access, "tokens", "referenceNumber")
		return references
	}
	require.Equal(t, []string{ofHelper, ofOwner}, visible(owner))
	require.Equal(t, []string{ofHelper}, visible(helper))
	require.Equal(t, []string{ofOwner}, visible(byToken))

	for _, method := range []string{"GET", "DELETE"} {
		got := a.want(http.StatusForbidden, method, "/tokens/"+ofOwner, helper.access, nil)
		require.Equal(t, "missing-permissions", got.text("reasonCode"))
		a.want(http.StatusForbidden, method, "/tokens/"+ofHelper, byToken.access, nil)
	}
	a.want(http.StatusNoContent, "DELETE", "/tokens/"+ofOwner, byToken.access, nil)
	a.want(http.StatusNoContent, "DELETE", "/tokens/"+ofHelper, owner.access, nil)
}

func TestSwitchDelete(t *testing.T) {
	const unknown = "20250625-EC-20F5EE4000-DA48AE4124-46"
	responses := map[simulator.DeleteAnswer]int{"": 0, simulator.AnswerNoContent: 204, simulator.AnswerBadRequest: 400,
		simulator.AnswerForbidden: 403}
	for chosen, want := range responses {
		t.Run("response "+string(chosen), func(t *testing.T) {
			a := newAPI(t, simulator.Options{DeleteUnknownToken: chosen, DeleteDeadToken: chosen,
				DeletePendingToken: chosen, ActivationDelay: time.Minute})
			s := a.login(seal(t), nipXML)
			orDefault := func(standard int) int {
				if want == 0 {
					return standard
				}
				return want
			}
			reference, _ := a.issue(s, "InvoiceRead")
			a.want(orDefault(204), "DELETE", "/tokens/"+reference, s.access, nil)
			a.want(orDefault(400), "DELETE", "/tokens/"+unknown, s.access, nil)
			a.want(400, "DELETE", "/tokens/nonsense", s.access, nil)

			reference, _ = a.issue(s, "InvoiceRead")
			a.sim.Advance(time.Minute)
			a.want(204, "DELETE", "/tokens/"+reference, s.access, nil)
			a.want(orDefault(400), "DELETE", "/tokens/"+reference, s.access, nil)
		})
	}
	a := newAPI(t, simulator.Options{})
	a.refused(a.do("GET", "/tokens/"+unknown, a.login(seal(t), nipXML).access, nil), 21405, unknown)
}

func TestTokenOfOtherContextUnknown(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: time.Minute})
	first := a.login(seal(t), nipXML)
	second := a.login(newCredential(t, simulator.CertificateOptions{NIP: otherNIP}), "<Nip>"+otherNIP+"</Nip>")
	reference, _ := a.issue(first, "InvoiceRead")
	seen, _ := a.list("/tokens", second.access, "tokens", "referenceNumber")
	require.Empty(t, seen)
	a.refused(a.do("GET", "/tokens/"+reference, second.access, nil), 21405, "nie istnieje")
	a.refused(a.do("DELETE", "/tokens/"+reference, second.access, nil), 21405, "nie istnieje")
	require.Equal(t, "Pending", a.tokenStatus(first, reference))
}

func TestTokenListFilters(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: unlimited(), ActivationDelay: time.Minute})
	owner := a.login(seal(t), nipXML)
	person := a.login(newCredential(t, simulator.CertificateOptions{PESEL: "44051401359"}), nipXML)
	issue := func(s session, description string) string {
		body := map[string]any{"permissions": []string{"InvoiceRead"}, "description": description}
		return a.want(http.StatusAccepted, "POST", "/tokens", s.access, body).text("referenceNumber")
	}
	revoked := issue(owner, "Księgowość ŻÓŁW")
	a.want(http.StatusNoContent, "DELETE", "/tokens/"+revoked, owner.access, nil)
	a.sim.Advance(time.Minute)
	active := issue(person, "Sprzedaż [vault:abc:def]")
	a.sim.Advance(time.Minute)
	pending := issue(owner, "Zakupy [vault:abc:ghi]")

	tests := map[string][]string{
		"":                              {pending, active, revoked},
		"status=Pending":                {pending},
		"status=Pending&status=Revoked": {pending, revoked},
		"status=Failed":                 {},
		"description=vault%3AABC":       {pending, active},
		"description=" + url.QueryEscape("żółw"):                     {revoked},
		"authorIdentifier=4405":                                      {active},
		"authorIdentifierType=Nip":                                   {pending, revoked},
		"status=pending&status=REVOKED":                              {pending, revoked},
		"authorIdentifierType=nip":                                   {pending, revoked},
		"authorIdentifierType=PESEL&status=active":                   {active},
		"authorIdentifierType=Fingerprint":                           {},
		"authorIdentifier=526&status=Pending":                        {pending},
		"description=vault&authorIdentifierType=Pesel&status=Active": {active},
	}
	for query, want := range tests {
		got, _ := a.list("/tokens?"+query, owner.access, "tokens", "referenceNumber")
		require.ElementsMatch(t, want, got, query)
	}
	for _, query := range []string{"status=Alive", "description=ab", "authorIdentifier=1", "authorIdentifierType=Vat",
		"pageSize=101", "pageSize=x"} {
		a.refused(a.do("GET", "/tokens?"+query, owner.access, nil), 21405, "")
	}
}

func TestTokenListPagesWithoutGaps(t *testing.T) {
	a := newAPI(t, simulator.Options{Limits: unlimited()})
	s := a.login(seal(t), nipXML)
	var want []string
	for range 25 {
		reference, _ := a.issue(s, "InvoiceRead")
		want = append([]string{reference}, want...)
	}
	first := a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
	require.Len(t, first.body["tokens"], 10)
	a.issue(s, "InvoiceRead")
	a.header.Set("x-continuation-token", first.text("continuationToken"))
	rest, pages := a.list("/tokens", s.access, "tokens", "referenceNumber")
	require.Equal(t, want[10:], rest)
	require.Equal(t, 2, pages)

	whole := a.want(http.StatusOK, "GET", "/tokens?pageSize=100", s.access, nil)
	require.Len(t, whole.body["tokens"], 26)
	require.Empty(t, whole.text("continuationToken"))
	a.header.Set("x-continuation-token", "nonsense")
	a.refused(a.do("GET", "/tokens", s.access, nil), 21418, "")
}

// BenchmarkHundredThousandTokens shows that issuing, reading and listing tokens is cheap in a
// full context.
func BenchmarkHundredThousandTokens(b *testing.B) {
	const many = 100_000
	a := newAPI(b, simulator.Options{Limits: unlimited(), ActivationDelay: time.Hour})
	s := a.login(seal(b), nipXML)
	a.client.Transport = a.sim.Transport()
	for i := range many {
		body := map[string]any{"permissions": []string{"InvoiceRead"}, "description": fmt.Sprintf("Token nr %06d", i)}
		a.want(http.StatusAccepted, "POST", "/tokens", s.access, body)
	}
	for b.Loop() {
		reference, _ := a.issue(s, "InvoiceRead")
		require.Equal(b, "Pending", a.tokenStatus(s, reference))
		got, _ := a.list("/tokens?description=000007", s.access, "tokens", "referenceNumber")
		require.Len(b, got, 1)
	}
}
