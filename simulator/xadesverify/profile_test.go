// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/xadestest"
)

const sha256URI = "http://www.w3.org/2001/04/xmlenc#sha256"

// edit replaces the only occurrence of a text in one part of the signature, before it is signed.
func edit(t *testing.T, old, replacement string) func(string) string {
	return func(part string) string { return replaceOnce(t, part, old, replacement) }
}

func TestVerifyRefusesOtherProfiles(t *testing.T) {
	tests := map[string]struct {
		properties, signedInfo [2]string
		detail                 string
	}{
		"no SigningCertificate": {properties: [2]string{"SigningCertificate>", "Other>"},
			detail: "Błąd walidacji XSD"},
		"no SigningTime": {properties: [2]string{"SigningTime>", "Other>"}, detail: "SigningTime"},
		"SigningTime not a time": {properties: [2]string{"Z</xades:SigningTime>", "X</xades:SigningTime>"},
			detail: "Nieprawidłowy czas podpisu"},
		"reference without the type": {signedInfo: [2]string{` Type="http://uri.etsi.org/01903#SignedProperties"`,
			""}, detail: "0 referencji typu SignedProperties"},
		"type on the wrong element": {signedInfo: [2]string{`URI="#SignedProperties"`, `URI="#Signature"`},
			detail: "Nieprawidłowa wartość skrótu"},
		"a reference to nowhere": {signedInfo: [2]string{`URI="#SignedProperties"`, `URI="#Nowhere"`},
			detail: "nie wskazuje na żaden element"},
		"a detached signature": {signedInfo: [2]string{`URI=""`, `URI="request.xml"`}, detail: "detached"},
		"an XPointer":          {signedInfo: [2]string{`URI=""`, `URI="#xpointer(/)"`}, detail: "detached"},
		"no URI":               {signedInfo: [2]string{` URI=""`, ""}, detail: "bez atrybutu URI"},
		"another XPath": {signedInfo: [2]string{"not(ancestor-or-self::ds:Signature)",
			"not(ancestor-or-self::ds:Object)"}, detail: "XPath"},
		"an unknown transform": {signedInfo: [2]string{"http://www.w3.org/TR/1999/REC-xpath-19991116",
			"http://www.w3.org/TR/1999/REC-xslt-19991116"}, detail: "Transformacja"},
		"an unknown canonicalization": {signedInfo: [2]string{`CanonicalizationMethod Algorithm="`,
			`CanonicalizationMethod Algorithm="urn:`}, detail: "kanonikalizacji"},
		"SHA-1 in the signature": {signedInfo: [2]string{"2001/04/xmldsig-more#ecdsa-sha256",
			"2001/04/xmldsig-more#ecdsa-sha1"}, detail: "Algorytm podpisu"},
		"an RSA algorithm with an EC key": {signedInfo: [2]string{"xmldsig-more#ecdsa-sha256",
			"xmldsig-more#rsa-sha256"}, detail: "nie pasuje do klucza ECDSA"},
		"SHA-1 of the certificate": {properties: [2]string{sha256URI, "http://www.w3.org/2000/09/xmldsig#sha1"},
			detail: "Algorytm skrótu"},
		"a DataObjectFormat of nothing": {properties: [2]string{`ObjectReference="#ref-1"`,
			`ObjectReference="#ref-2"`}, detail: "ObjectReference"},
		"another certificate's serial": {properties: [2]string{"</ds:X509SerialNumber>", "1</ds:X509SerialNumber>"},
			detail: "Numer seryjny"},
		"an Id that occurs twice": {properties: [2]string{"<xades:SignedSignatureProperties>",
			`<xades:SignedSignatureProperties Id="SignedProperties">`}, detail: "więcej niż raz"},
		"SignedSignatureProperties astray": {properties: [2]string{"<xades:SigningCertificate>",
			"<xades:SignerRole></xades:SignerRole><xades:SigningCertificate>"}, detail: "Błąd walidacji XSD"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := request(t, xadestest.DSS(), "ec")
			if test.properties[0] != "" {
				r.EditProperties = func(part string) string {
					require.Contains(t, part, test.properties[0])
					return strings.ReplaceAll(part, test.properties[0], test.properties[1])
				}
			}
			if test.signedInfo[0] != "" {
				r.EditSignedInfo = edit(t, test.signedInfo[0], test.signedInfo[1])
			}
			refusedAs(t, signed(t, r), 9105, test.detail)
		})
	}
}

func TestVerifyRefusesEmptySignedProperties(t *testing.T) {
	r := request(t, xadestest.SignXML(), "ec")
	r.EditProperties = func(part string) string {
		start, end := strings.Index(part, ">")+1, strings.Index(part, "</xades:SignedProperties>")
		return part[:start] + part[end:]
	}
	refusedAs(t, signed(t, r), 9105, "SignedSignatureProperties")
}

func TestVerifyRefusesFutureSigningTime(t *testing.T) {
	r := request(t, xadestest.DSS(), "ec")
	r.SigningTime = time.Now().Add(30 * time.Second)
	_, err := verify(signed(t, r))
	require.NoError(t, err, "half a minute is within the tolerance")
	r.SigningTime = time.Now().Add(2 * time.Minute)
	refusedAs(t, signed(t, r), 9105, "leży w przyszłości")
}

func TestVerifyRefusesOtherCertificateInKeyInfo(t *testing.T) {
	r := request(t, xadestest.DSS(), "ec")
	document := signed(t, r)
	_, other := credential(t, "ec")
	r.Certificate = other
	foreign := signed(t, r)
	part := func(text string) string {
		return text[strings.Index(text, "<ds:X509Certificate>"):strings.Index(text, "</ds:X509Certificate>")]
	}
	refusedAs(t, replaceOnce(t, document, part(document), part(foreign)), 9105, "Skrót w SigningCertificate")
	refusedAs(t, foreign, 9105, "Nieprawidłowa wartość podpisu")
	refusedAs(t, replaceOnce(t, document, part(document), "<ds:X509Certificate>AAAA"), 21115, "odczytać")
}

func TestVerifyRefusesOtherECDSAForms(t *testing.T) {
	tests := map[string]func(r, s []byte) []byte{
		"DER": func(r, s []byte) []byte {
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
			require.NoError(t, err)
			return der
		},
		"not padded": func(r, s []byte) []byte { return append(r[1:], s...) },
		"too long":   func(r, s []byte) []byte { return append(append([]byte{0}, r...), append([]byte{0}, s...)...) },
	}
	for name, encode := range tests {
		t.Run(name, func(t *testing.T) {
			r := request(t, xadestest.DSS(), "ec")
			r.EncodeECDSA = encode
			refusedAs(t, signed(t, r), 9105, "r||s")
		})
	}
}

func TestVerifyRefusesWeakKeys(t *testing.T) {
	// The Go standard library refuses RSA keys below 1024 bits by itself.
	weakRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	weakEC, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	r := request(t, xadestest.DSS(), "ec")

	r.Key, r.Certificate = weakRSA, selfSigned(t, weakRSA)
	refusedAs(t, signed(t, r), 9105, "1024 bitów")
	r.Key, r.Certificate = weakEC, selfSigned(t, weakEC)
	refusedAs(t, signed(t, r), 9105, "224 bitów")
}

// Signature wrapping: the signed element is moved, and another one stands in its place.
func TestVerifyRefusesWrappedContent(t *testing.T) {
	document := signed(t, request(t, xadestest.DSS(), "ec"))
	start, end := strings.Index(document, "<ds:Signature"), strings.Index(document, "</AuthTokenRequest>")
	signature := document[start:end]

	root := strings.Replace(document, "<AuthTokenRequest ", `<AuthTokenRequest Id="signed" `, 1)
	evil := strings.NewReplacer(signature, "", "5265877635", "1111111111").Replace(document)
	tests := map[string]string{
		"the signed root below another root": replaceOnce(t, evil, "</AuthTokenRequest>", root+"</AuthTokenRequest>"),
		"the signature deeper than a child": replaceOnce(t, strings.Replace(document, signature, "", 1),
			"<Nip>5265877635</Nip>", "<Nip>5265877635</Nip>"+signature),
		"the signed root inside an Object": replaceOnce(t, evil, "</AuthTokenRequest>",
			strings.Replace(signature, "</ds:Signature>",
				"<ds:Object>"+strings.Replace(document, signature, "",
					1)+"</ds:Object></ds:Signature>", 1)+"</AuthTokenRequest>"),
	}
	for name, wrapped := range tests {
		t.Run(name, func(t *testing.T) { refusedAs(t, wrapped, 9105, "") })
	}
}

func TestVerifyRefusesMovedContent(t *testing.T) {
	document := signed(t, request(t, xadestest.Enveloping(), "ec"))
	start, end := strings.Index(document, `<ds:Object Id="content">`), strings.LastIndex(document, "</ds:Signature>")
	object := document[start:end]
	evil := strings.NewReplacer(` Id="content"`, "", "5265877635", "1111111111").Replace(object)
	hidden := "<ds:Object><Hidden xmlns=\"\">" + object + "</Hidden></ds:Object>"
	refusedAs(t, replaceOnce(t, document, object, evil+hidden), 9105, "0 referencji do podpisywanego dokumentu")
}

// A base64 transform digests text only. On anything but an Object's text it would let elements
// change.
func TestVerifyRefusesBase64OverElements(t *testing.T) {
	r := request(t, xadestest.Enveloping(), "ec")
	r.EditSignedInfo = func(part string) string {
		first := strings.Index(part, `<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#">`)
		return part[:first] + strings.Replace(part[first:], "http://www.w3.org/2001/10/xml-exc-c14n#",
			"http://www.w3.org/2000/09/xmldsig#base64", 1)
	}
	refusedAs(t, signed(t, r), 9105, "base64")
}
