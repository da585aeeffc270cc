// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"encoding/base64"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

const (
	challenge = "20260101-CR-0123456789-0123456789-AB"
	request   = `<AuthTokenRequest xmlns="http://ksef.mf.gov.pl/auth/token/2.0"><Challenge>` + challenge + `</Challenge>` +
		`<ContextIdentifier><Nip>5265877635</Nip></ContextIdentifier><SubjectIdentifierType>certificateSubject</SubjectIdentifierType>`
	requestEnd = `</AuthTokenRequest>`
	// emptySignature has the form of one; KSeF alone verifies signatures.
	emptySignature = `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"></Signature>`
)

func enveloping(object string) string {
	return `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">` + object + `</ds:Signature>`
}

func TestReadAllForms(t *testing.T) {
	enveloped := request + emptySignature + requestEnd
	for name, document := range map[string]string{
		"enveloped":         enveloped,
		"with declaration":  `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + enveloped + "\n",
		"indented":          strings.ReplaceAll(enveloped, "><", ">\n  <"),
		"schema 2.1":        strings.Replace(enveloped, "token/2.0", "token/2.1", 1),
		"enveloping":        enveloping(`<ds:Object>` + request + requestEnd + `</ds:Object>`),
		"enveloping base64": enveloping(`<ds:Object>` + base64.StdEncoding.EncodeToString([]byte(request+requestEnd)) + `</ds:Object>`),
	} {
		t.Run(name, func(t *testing.T) {
			found, err := read([]byte(document))
			require.NoError(t, err)
			require.Equal(t, challenge, found.challenge)
			require.Equal(t, client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}, found.context)
			require.Equal(t, "certificateSubject", found.subjectType)
			require.Nil(t, found.signer)
		})
	}
}

func TestReadRefusesWhatIsNotSignedAsAWhole(t *testing.T) {
	twice := strings.Replace(request, "<ContextIdentifier>", "<Challenge>x</Challenge><ContextIdentifier>", 1)
	for name, test := range map[string]struct{ document, text string }{
		"two challenges":   {twice + emptySignature + requestEnd, "an element Challenge"},
		"another schema":   {strings.Replace(request, "token/2.0", "token/9.9", 1) + emptySignature + requestEnd, "no AuthTokenRequest"},
		"two requests":     {enveloping(`<ds:Object>` + request + requestEnd + request + requestEnd + `</ds:Object>`), "or more than one"},
		"base64 of prose":  {enveloping(`<ds:Object>bm90IFhNTA==</ds:Object>`), "no AuthTokenRequest"},
		"detached":         {`<x>` + request + requestEnd + emptySignature + `</x>`, "beside the request"},
		"an empty context": {strings.Replace(request, "<Nip>5265877635</Nip>", "", 1) + emptySignature + requestEnd, "an element ContextIdentifier"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read([]byte(test.document))
			var input *client.InputError
			require.ErrorAs(t, err, &input)
			require.ErrorContains(t, err, test.text)
		})
	}
}

func TestReadQuotesNothing(t *testing.T) {
	const canary = "canary-0123456789"
	for name, document := range map[string]string{
		"entity":    `<x>&` + canary + `;</x>`,
		"end":       `<x></` + canary + `>`,
		"encoding":  `<?xml version="1.0" encoding="` + canary + `"?><x/>`,
		"attribute": `<x ` + canary + `/>`,
		"element":   strings.Replace(request, "<Challenge>", "<"+canary+"/><Challenge>", 1) + emptySignature + requestEnd,
		"context":   strings.ReplaceAll(request, "Nip>", canary+">") + emptySignature + requestEnd + "<",
	} {
		_, err := read([]byte(document))
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), canary, name)
	}
}

// FuzzSignedRequest checks that any input is either refused as a user's mistake or has all that is
// compared with what Begin returned.
func FuzzSignedRequest(f *testing.F) {
	for _, seed := range []string{
		request + emptySignature + requestEnd,
		enveloping(`<ds:Object>` + request + requestEnd + `</ds:Object>`),
		enveloping(`<ds:Object>` + base64.StdEncoding.EncodeToString([]byte(request+requestEnd)) + `</ds:Object>`),
		enveloping(`<ds:KeyInfo><ds:X509Data><ds:X509Certificate>AAAA</ds:X509Certificate></ds:X509Data></ds:KeyInfo>`),
		base64.StdEncoding.EncodeToString([]byte(request + emptySignature + requestEnd)),
		"<!DOCTYPE x [<!ENTITY y 'z'>]><x>&y;</x>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		document, err := Decode(given)
		var found *signed
		if err == nil {
			found, err = read(document)
		}
		if err != nil {
			var input *client.InputError
			require.ErrorAs(t, err, &input)
			require.Equal(t, "signed_request", input.Field)
			return
		}
		require.NotEmpty(t, found.challenge)
		require.NotEmpty(t, found.subjectType)
		require.False(t, found.context.IsZero())
	})
}
