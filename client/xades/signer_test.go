// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSignedDocumentVerifies(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey(t), "P-256": ecKey(t)} {
		t.Run(name, func(t *testing.T) {
			certificate := certify(t, key, sealName())
			signer, err := NewSigner(certificate, key)
			require.NoError(t, err)
			signed, err := signer.Sign(sampleRequest(), time.Now())
			require.NoError(t, err)
			requireValid(t, signed, certificate)
		})
	}
}

func TestSignedPiecesStandInTheDocumentInCanonicalForm(t *testing.T) {
	signed, err := newSigner(t, ecKey(t)).Sign(sampleRequest(), time.Now())
	require.NoError(t, err)
	d := parse(t, signed)
	require.Contains(t, string(signed), string(canonical(t, d.info)))
	require.Contains(t, string(signed), string(canonical(t, d.properties)))

	document, err := sampleRequest().Document()
	require.NoError(t, err)
	require.Equal(t, string(document), declaration+string(canonical(t, d.withoutSignature())))
}

func TestSignatureNamesWhatXAdESAsksFor(t *testing.T) {
	signingTime := time.Date(2026, 8, 1, 14, 30, 59, 999, time.FixedZone("CEST", 2*60*60))
	signed, err := newSigner(t, ecKey(t)).Sign(sampleRequest(), signingTime)
	require.NoError(t, err)
	d := parse(t, signed)

	require.Equal(t, "2026-08-01T12:30:59Z", d.properties.FindElement(".//xades:SigningTime").Text())
	references := d.info.FindElements("./ds:Reference")
	require.Len(t, references, 2)
	require.Empty(t, references[0].SelectAttrValue("URI", "missing"))
	require.Equal(t, "#"+d.properties.SelectAttrValue("Id", ""), references[1].SelectAttrValue("URI", ""))
	require.Equal(t, "http://uri.etsi.org/01903#SignedProperties", references[1].SelectAttrValue("Type", ""))
	require.Equal(t, "#"+d.signature.SelectAttrValue("Id", ""), d.properties.Parent().SelectAttrValue("Target", ""))
	format := d.properties.FindElement(".//xades:DataObjectFormat")
	require.Equal(t, "#"+references[0].SelectAttrValue("Id", ""), format.SelectAttrValue("ObjectReference", ""))
	require.Equal(t, "text/xml", format.FindElement("./xades:MimeType").Text())
	children := d.root.ChildElements()
	require.Same(t, d.signature, children[len(children)-1])
}

func TestIdentifiersAreNeverTheSameTwice(t *testing.T) {
	signer := newSigner(t, ecKey(t))
	seen := map[string]bool{}
	for range 10 {
		signed, err := signer.Sign(sampleRequest(), time.Now())
		require.NoError(t, err)
		for _, element := range parse(t, signed).root.FindElements("//[@Id]") {
			id := element.SelectAttrValue("Id", "")
			require.False(t, seen[id], id)
			seen[id] = true
		}
	}
	require.Len(t, seen, 3*10)
}

func TestSignerIsRefusedWhatKSeFWouldNotAccept(t *testing.T) {
	p256 := ecKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)

	for name, c := range map[string]struct {
		certified, key crypto.Signer
		want           string
	}{
		"short RSA":    {short, short, "1024 bits is too short"},
		"P-384":        {p384, p384, "on P-384 cannot be used"},
		"Ed25519":      {edwards, edwards, "must be RSA or ECDSA on P-256"},
		"another key":  {p256, ecKey(t), "does not belong to the certificate"},
		"another kind": {p256, rsaKey(t), "does not belong to the certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewSigner(certify(t, c.certified, sealName()), c.key)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// failingKey is a key that is unavailable when it is needed.
type failingKey struct{ *ecdsa.PrivateKey }

var errOutOfReach = errors.New("out of reach")

func (failingKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errOutOfReach
}

func TestFailureOfTheKeyIsPassedOn(t *testing.T) {
	key := ecKey(t)
	signer, err := NewSigner(certify(t, key, sealName()), failingKey{key})
	require.NoError(t, err)
	_, err = signer.Sign(sampleRequest(), time.Now())
	require.ErrorIs(t, err, errOutOfReach)
}

func TestSignRefusesWhatDocumentRefuses(t *testing.T) {
	_, err := newSigner(t, ecKey(t)).Sign(Request{}, time.Now())
	require.ErrorContains(t, err, "challenge")
}

func TestSigningIsFitForConcurrentUse(t *testing.T) {
	key := ecKey(t)
	certificate := certify(t, key, sealName())
	signer, err := NewSigner(certificate, key)
	require.NoError(t, err)
	results := make(chan []byte)
	for range 8 {
		go func() {
			signed, _ := signer.Sign(sampleRequest(), time.Now())
			results <- signed
		}()
	}
	for range 8 {
		requireValid(t, <-results, certificate)
	}
}

func TestDocumentIsEncodedInUTF8WithoutAMark(t *testing.T) {
	signed, err := newSigner(t, ecKey(t)).Sign(sampleRequest(), time.Now())
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(signed, []byte(`<?xml version="1.0" encoding="UTF-8"?><AuthTokenRequest `)))
	require.Contains(t, string(signed), `O=Żółć\, Gęś &amp; \"Spółka\" \&lt;test\&gt;`)
}
