// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSurname        = asn1.ObjectIdentifier{2, 5, 4, 4}
	oidSerialNumber   = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidCountry        = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganization   = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidGivenName      = asn1.ObjectIdentifier{2, 5, 4, 42}
	oidOrganizationID = asn1.ObjectIdentifier{2, 5, 4, 97}
)

func sampleRequest() Request {
	return Request{
		Challenge:             "20250514-CR-226FB7B000-3ACF9BE4C0-10",
		Context:               Context{Type: ContextNIP, Value: "5265877635"},
		SubjectIdentifierType: CertificateSubject,
	}
}

func sealName() []relativeNameSET {
	return []relativeNameSET{
		{value(oidCountry, "PL")},
		{value(oidOrganizationID, "VATPL-5265877635")},
		{value(oidOrganization, `Żółć, Gęś & "Spółka" <test>`)},
		{value(oidCommonName, "Testowa Sp. z o.o.")},
	}
}

func value(oid asn1.ObjectIdentifier, text string) attribute {
	der, err := asn1.Marshal(text)
	if err != nil {
		panic(err)
	}
	return attribute{Type: oid, Value: asn1.RawValue{FullBytes: der}}
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

// certify makes a self-signed certificate, so name is its issuer's name too.
func certify(t require.TestingT, key crypto.Signer, name []relativeNameSET) *x509.Certificate {
	subject, err := asn1.Marshal(name)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(0x1234567890), 64),
		RawSubject:   subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func newSigner(t require.TestingT, key crypto.Signer) *Signer {
	signer, err := NewSigner(certify(t, key, sealName()), key)
	require.NoError(t, err)
	return signer
}

// pkixName is a name as crypto/x509 builds it.
func pkixName(t testing.TB, name pkix.Name) []relativeNameSET {
	der, err := asn1.Marshal(name.ToRDNSequence())
	require.NoError(t, err)
	var names []relativeNameSET
	_, err = asn1.Unmarshal(der, &names)
	require.NoError(t, err)
	return names
}
