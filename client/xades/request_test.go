// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDocumentIsCompact(t *testing.T) {
	document, err := sampleRequest().Document()
	require.NoError(t, err)
	require.Equal(t, `<?xml version="1.0" encoding="UTF-8"?>`+
		`<AuthTokenRequest xmlns="http://ksef.mf.gov.pl/auth/token/2.0">`+
		`<Challenge>20250514-CR-226FB7B000-3ACF9BE4C0-10</Challenge>`+
		`<ContextIdentifier><Nip>5265877635</Nip></ContextIdentifier>`+
		`<SubjectIdentifierType>certificateSubject</SubjectIdentifierType>`+
		`</AuthTokenRequest>`, string(document))
}

func TestDocumentRefusesWhatTheSchemaDoesNotAdmit(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"no challenge":          {func(r *Request) { r.Challenge = "" }, "challenge"},
		"challenge with markup": {func(r *Request) { r.Challenge = "20250514-CR-226FB7B000-3ACF9BE4C0-<x" }, "challenge"},
		"challenge with a line": {func(r *Request) { r.Challenge += "\n" }, "challenge"},
		"no context":            {func(r *Request) { r.Context = Context{} }, "context type"},
		"another context type":  {func(r *Request) { r.Context.Type = "PeppolId" }, "context type"},
		"NIP of nine digits":    {func(r *Request) { r.Context.Value = "526587763" }, "not a valid Nip"},
		"NIP with a zero first": {func(r *Request) { r.Context.Value = "0265877635" }, "not a valid Nip"},
		"NIP as internal id":    {func(r *Request) { r.Context.Type = ContextInternalID }, "not a valid InternalId"},
		"no subject type":       {func(r *Request) { r.SubjectIdentifierType = "" }, "subject identifier type"},
	} {
		t.Run(name, func(t *testing.T) {
			request := sampleRequest()
			c.change(&request)
			_, err := request.Document()
			require.ErrorContains(t, err, c.want)
		})
	}
}
