// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// claimsOf reads the claims of a JWT.
func claimsOf(t testing.TB, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	require.Len(t, parts, 3)
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(data, &claims))
	return claims
}

// The claims of real access tokens of TEST are in ksef-api issues 125 (a seal), 482 (a person) and
// 838.
func TestJWTAccessClaims(t *testing.T) {
	a := newAPI(t, simulator.Options{ActivationDelay: -1, Grants: []simulator.Grant{{
		Identifier:  simulator.Identifier{Type: "Pesel", Value: pesel},
		Context:     simulator.Identifier{Type: "Nip", Value: nip},
		Permissions: []string{"InvoiceRead", "CredentialsManage"},
	}}})
	check := func(jwt, method, subject, permissions, effective string) {
		t.Helper()
		claims := claimsOf(t, jwt)
		require.Equal(t, "ContextToken", claims["typ"])
		require.Equal(t, "Nip", claims["cit"])
		require.Equal(t, nip, claims["civ"])
		require.Equal(t, method, claims["aum"])
		require.JSONEq(t, subject, claims["sud"].(string))
		require.JSONEq(t, permissions, claims["per"].(string))
		require.JSONEq(t, effective, claims["pep"].(string))
		for _, empty := range []string{"pec", "rol", "iop"} {
			require.Equal(t, "[]", claims[empty], empty)
		}
	}
	owner := a.login(seal(t), nipXML)
	check(owner.access, "QualifiedSeal",
		`{"subjectIdentifier": {"type": "Nip", "value": "5265877635"}, "commonName": "Testowa Sp. z o.o.",
		"countryName": "PL", "organizationName": "Testowa Sp. z o.o.", "organizationIdentifier": "VATPL-5265877635"}`,
		`["Owner"]`, `[]`)
	person := a.login(newCredential(t, simulator.CertificateOptions{PESEL: pesel}), nipXML)
	check(person.access, "QualifiedSignature",
		`{"subjectIdentifier": {"type": "Pesel", "value": "44051401359"}, "givenName": "Jan",
		"surname": "Testowy", "serialNumber": "PNOPL-44051401359", "commonName": "Jan Testowy", "countryName": "PL"}`,
		`["InvoiceRead", "CredentialsManage"]`, `[]`)

	_, token := a.issue(owner, "InvoiceWrite")
	check(a.redeem(a.beginWithToken(token)).access, "Token",
		`{"subjectIdentifier": {"type": "Nip", "value": "5265877635"}}`, `["Owner"]`, `["InvoiceWrite"]`)
	_, token = a.issue(person, "InvoiceRead")
	check(a.redeem(a.beginWithToken(token)).access, "Token",
		`{"subjectIdentifier": {"type": "Pesel", "value": "44051401359"}}`,
		`["InvoiceRead", "CredentialsManage"]`, `["InvoiceRead"]`)
}

func TestJWTOtherClaims(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	o := a.begin(seal(t), nipXML)
	s := a.redeem(o)
	for kind, jwt := range map[string]string{"AuthenticationToken": o.token, "RefreshToken": s.refresh} {
		claims := claimsOf(t, jwt)
		require.Equal(t, kind, claims["typ"])
		require.Equal(t, o.reference, claims["arn"])
		require.Len(t, claims, 6, "%v", claims)
	}
}
