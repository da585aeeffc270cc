// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// The official Java client's BaseIntegrationTest.authAsPeppolProvider logs in in the same way.
func TestLoginPeppolProvider(t *testing.T) {
	const peppol = "<PeppolId>PPL000001</PeppolId>"
	a := newAPI(t, simulator.Options{RequireGrants: true})
	provider := newCredential(t, simulator.CertificateOptions{PeppolID: "PPL000001"})
	o := a.begin(provider, peppol)
	operation := a.want(http.StatusOK, "GET", "/auth/"+o.reference, o.token, nil)
	require.Equal(t, 200, operation.number("status.code"))
	require.Equal(t, "PeppolSignature", operation.text("authenticationMethod"))
	s := a.redeem(o)
	require.Equal(t, simulator.Identifier{Type: "PeppolId", Value: "PPL000001"}, a.sim.State().Sessions[0].Identifier)

	a.want(http.StatusOK, "GET", "/auth/sessions", s.access, nil)
	a.refused(a.do("POST", "/tokens", s.access, tokenBody), 26002, "PeppolId")
	a.refused(a.do("GET", "/certificates/enrollments/data", s.access, nil), 25001, "")
	a.refused(a.do("POST", "/certificates/enrollments", s.access, map[string]any{}), 25002, "")

	for name, login := range map[string]struct {
		who     credential
		context string
	}{
		"a provider in a taxpayer's context": {provider, nipXML},
		"a provider in another's context":    {provider, "<PeppolId>PPL000002</PeppolId>"},
		"a taxpayer in a provider's context": {seal(t), peppol},
	} {
		code, _ := a.status(a.begin(login.who, login.context))
		require.Equal(t, 415, code, name)
	}
}
