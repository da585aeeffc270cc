// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"
	"vault-plugin-secrets-ksef/simulator/xadesverify"
)

const challenge = "20250625-CR-20F5EE4000-DA48AE4124-46"

func credential(t testing.TB, key string) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	certPEM, keyPEM, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: "5265877635", Key: key})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	return pair.PrivateKey.(crypto.Signer), pair.Leaf
}

func request(t testing.TB, layout xadestest.Layout, key string) xadestest.Request {
	signer, certificate := credential(t, key)
	return xadestest.Request{
		Challenge: challenge, Context: "<Nip>5265877635</Nip>", Layout: layout, Key: signer, Certificate: certificate,
		SigningTime: time.Now().Add(-time.Minute),
	}
}

func signed(t testing.TB, r xadestest.Request) string {
	t.Helper()
	document, err := xadestest.Sign(r)
	require.NoError(t, err)
	return string(document)
}

func verify(document string) (*xadesverify.Document, error) {
	return xadesverify.Verify([]byte(document), time.Now(), time.Minute)
}

func layouts() map[string]xadestest.Layout {
	return map[string]xadestest.Layout{
		"C#": xadestest.CSharp(), "DSS": xadestest.DSS(), "godss": xadestest.GoDSS(), "signxml": xadestest.SignXML(),
		"enveloping": xadestest.Enveloping(), "enveloping base64": xadestest.EnvelopingBase64(),
	}
}

func TestVerifyLayouts(t *testing.T) {
	for name, layout := range layouts() {
		for _, key := range []string{"ec", "rsa"} {
			t.Run(name+" "+key, func(t *testing.T) {
				r := request(t, layout, key)
				document, err := verify(signed(t, r))
				require.NoError(t, err)
				require.Equal(t, r.Certificate, document.Certificate)
				require.Equal(t, r.SigningTime.Unix(), document.SigningTime.Unix())
				require.Equal(t, "AuthTokenRequest", document.Content.Tag)
				require.Equal(t, challenge, document.Content.SelectElement("Challenge").Text())
				require.Empty(t, document.Content.FindElements("//Signature"),
					"the content must be without its signature")
			})
		}
	}
}

func TestVerifyAlgorithms(t *testing.T) {
	sha3 := []crypto.Hash{crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512}
	for _, hash := range append([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}, sha3...) {
		for _, pss := range []bool{false, true} {
			if !pss && slices.Contains(sha3, hash) {
				continue // the list has SHA-3 with PSS and ECDSA only
			}
			r := request(t, xadestest.DSS(), "rsa")
			r.Hash, r.DigestHash, r.PSS = hash, hash, pss
			_, err := verify(signed(t, r))
			require.NoError(t, err, "RSA, %v, PSS: %v", hash, pss)
		}
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			require.NoError(t, err)
			r := request(t, xadestest.DSS(), "ec")
			r.Hash, r.DigestHash, r.Key, r.Certificate = hash, hash, key, selfSigned(t, key)
			_, err = verify(signed(t, r))
			require.NoError(t, err, "%v, %v", curve.Params().Name, hash)
		}
	}
}

// The digests of a document do not depend on the hash of its signature value.
func TestVerifyDigestHashes(t *testing.T) {
	r := request(t, xadestest.CSharp(), "rsa")
	r.Hash, r.DigestHash = crypto.SHA256, crypto.SHA3_512
	_, err := verify(signed(t, r))
	require.NoError(t, err)
}

func TestVerifyRefusesOtherHashes(t *testing.T) {
	r := request(t, xadestest.DSS(), "ec")
	r.Hash = crypto.SHA3_224
	refusedAs(t, signed(t, r), 9105, "ecdsa-sha3-224")
	r = request(t, xadestest.DSS(), "ec")
	r.DigestHash = crypto.SHA3_224
	refusedAs(t, signed(t, r), 9105, "#sha3-224")
	r = request(t, xadestest.DSS(), "rsa")
	r.Hash = crypto.SHA3_256
	refusedAs(t, signed(t, r), 9105, "rsa-sha3-256")
}

func selfSigned(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

// The documents have no comments, so the algorithms of one kind give the same octets for them.
func TestVerifyCanonicalizations(t *testing.T) {
	const (
		inclusive = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
		exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	)
	tests := map[string]struct {
		layout   xadestest.Layout
		old, new string
	}{
		"1.0 with comments":       {xadestest.CSharp(), inclusive, inclusive + "#WithComments"},
		"1.1":                     {xadestest.CSharp(), inclusive, "http://www.w3.org/2006/12/xml-c14n11"},
		"1.1 with comments":       {xadestest.CSharp(), inclusive, "http://www.w3.org/2006/12/xml-c14n11#WithComments"},
		"exclusive with comments": {xadestest.DSS(), exclusive, exclusive + "WithComments"},
		"a list of prefixes": {
			xadestest.DSS(), `CanonicalizationMethod Algorithm="` + exclusive + `">`,
			`CanonicalizationMethod Algorithm="` + exclusive + `"><InclusiveNamespaces xmlns="` + exclusive +
				`" PrefixList="ds xs"></InclusiveNamespaces>`,
		},
		"none, which is 1.0": {
			xadestest.Enveloping(), `<ds:Transforms><ds:Transform Algorithm="` + exclusive +
				`"></ds:Transform></ds:Transforms><ds:DigestMethod`,
			`<ds:DigestMethod`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := request(t, test.layout, "ec")
			count := 0
			r.EditSignedInfo = func(part string) string {
				count = strings.Count(part, test.old)
				if name == "none, which is 1.0" { // the properties are nested deeper, with more namespaces in scope
					return strings.Replace(part, test.old, test.new, 1)
				}
				return strings.ReplaceAll(part, test.old, test.new)
			}
			_, err := verify(signed(t, r))
			require.NoError(t, err)
			require.Positive(t, count, "the test must change something")
		})
	}
}

// refusedAs asserts that a document is refused with a code and a detail that contains the text.
func refusedAs(t *testing.T, document string, code int, detail string) {
	t.Helper()
	_, err := verify(document)
	var refused *xadesverify.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code, "%v", refused.Details)
	require.Contains(t, strings.Join(refused.Details, " "), detail)
}

func replaceOnce(t *testing.T, text, old, replacement string) string {
	t.Helper()
	require.Equal(t, 1, strings.Count(text, old), "%q must occur once in %s", old, text)
	return strings.Replace(text, old, replacement, 1)
}

func TestVerifyRefusesChangedDocument(t *testing.T) {
	for name, layout := range layouts() {
		t.Run(name, func(t *testing.T) {
			document := signed(t, request(t, layout, "ec"))
			if !layout.Base64 {
				changed := replaceOnce(t, document, "<Nip>5265877635</Nip>", "<Nip>5265877636</Nip>")
				refusedAs(t, changed, 9105, "Nieprawidłowa wartość skrótu")
			}
			second := strings.Index(document, "</xades:SigningTime>") - 2
			changed := document[:second] + string('0'+(document[second]-'0'+1)%10) + document[second+1:]
			refusedAs(t, changed, 9105, "Nieprawidłowa wartość skrótu")

			value := strings.Index(document, "SignatureValue>") + len("SignatureValue>")
			first := map[bool]string{true: "B", false: "A"}[document[value] == 'A']
			refusedAs(t, document[:value]+first+document[value+1:], 9105, "Nieprawidłowa wartość podpisu")
		})
	}
}

func TestVerifyRefusesUnsignedXML(t *testing.T) {
	document := signed(t, request(t, xadestest.DSS(), "ec"))
	signature := document[strings.Index(document, "<ds:Signature"):strings.Index(document, "</AuthTokenRequest>")]
	declared := func(encoding string) string { return `<?xml version="1.0" encoding="` + encoding + `"?>` + document }
	tests := map[string]struct {
		document string
		code     int
	}{
		"nothing":                {" \n", 21001},
		"not XML":                {"token", 9101},
		"cut off":                {document[:len(document)-5], 9101},
		"two roots":              {document + document, 9101},
		"a DOCTYPE":              {"<!DOCTYPE AuthTokenRequest>" + document, 9101},
		"an instruction":         {"<?php echo ?>" + document, 9101},
		"an undeclared prefix":   {"<x:AuthTokenRequest/>", 9101},
		"an attribute twice":     {`<a b="1" b="2"/>`, 9101},
		"too deep":               {strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100), 9101},
		"too many attributes":    {"<a" + strings.Repeat(" x='1'", 17) + "/>", 9101},
		"too many nodes":         {"<a>" + strings.Repeat("<b/>", 20_000) + "</a>", 9101},
		"too large":              {"<a>" + strings.Repeat(" ", 1<<20) + "</a>", 9101},
		"not UTF-8":              {"<a>\xff</a>", 21217},
		"declared as ISO-8859-2": {declared("ISO-8859-2"), 21217},
		"no signature":           {strings.Replace(document, signature, "", 1), 9102},
		"two signatures":         {strings.Replace(document, signature, signature+signature, 1), 9103},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { refusedAs(t, test.document, test.code, "") })
	}
	_, err := verify("\uFEFF" + declared("utf-8") + "\n")
	require.NoError(t, err, "a byte order mark and a declaration are no fault")
}
