// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"math/big"

	"github.com/beevik/etree"
	dsigxml "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
	"github.com/stretchr/testify/require"
)

// signedDocument is a signed request, parsed by a third-party library.
type signedDocument struct {
	root                        *etree.Element
	signature, info, properties *etree.Element
}

func parse(t require.TestingT, signed []byte) signedDocument {
	requireStrictXML(t, signed)
	document := etree.NewDocument()
	require.NoError(t, document.ReadFromBytes(signed))
	d := signedDocument{
		root:       document.Root(),
		signature:  document.FindElement("./AuthTokenRequest/ds:Signature"),
		info:       document.FindElement("./AuthTokenRequest/ds:Signature/ds:SignedInfo"),
		properties: document.FindElement("//xades:QualifyingProperties/xades:SignedProperties"),
	}
	require.NotNil(t, d.info)
	require.NotNil(t, d.properties)
	return d
}

// requireStrictXML parses the document with the standard library, which refuses characters that XML
// does not have.
func requireStrictXML(t require.TestingT, document []byte) {
	decoder := xml.NewDecoder(bytes.NewReader(document))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

// canonical returns goxmldsig's canonical form of an element in its place.
func canonical(t require.TestingT, element *etree.Element) []byte {
	context, err := etreeutils.NSBuildParentContext(element)
	require.NoError(t, err)
	detached, err := etreeutils.NSDetatch(context, element)
	require.NoError(t, err)
	text, err := dsigxml.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(detached)
	require.NoError(t, err)
	return text
}

// withoutSignature returns the root after the transform enveloped-signature.
func (d signedDocument) withoutSignature() *etree.Element {
	root := d.root.Copy()
	root.RemoveChild(root.SelectElement("Signature"))
	return root
}

// requireValid verifies a signed document: both digests, the certificate's, and the signature
// itself.
func requireValid(t require.TestingT, signed []byte, certificate *x509.Certificate) {
	d := parse(t, signed)
	digests := d.info.FindElements("./ds:Reference/ds:DigestValue")
	require.Len(t, digests, 2)
	require.Equal(t, digest(canonical(t, d.withoutSignature())), digests[0].Text())
	require.Equal(t, digest(canonical(t, d.properties)), digests[1].Text())
	require.Equal(t, digest(certificate.Raw), d.properties.FindElement(".//xades:CertDigest/ds:DigestValue").Text())
	require.Equal(t, certificate.SerialNumber.String(), d.properties.FindElement(".//ds:X509SerialNumber").Text())
	require.Equal(t, base64.StdEncoding.EncodeToString(certificate.Raw), d.signature.FindElement("./ds:KeyInfo//ds:X509Certificate").Text())
	value := d.signature.FindElement("./ds:SignatureValue").Text()
	require.True(t, verifies(t, canonical(t, d.info), value, certificate.PublicKey))
}

func verifies(t require.TestingT, info []byte, value string, key crypto.PublicKey) bool {
	signature, err := base64.StdEncoding.DecodeString(value)
	require.NoError(t, err)
	hash := sha256.Sum256(info)
	if public, isRSA := key.(*rsa.PublicKey); isRSA {
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], signature) == nil
	}
	require.Len(t, signature, 64)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(key.(*ecdsa.PublicKey), hash[:], r, s)
}
