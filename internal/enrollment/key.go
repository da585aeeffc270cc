// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enrollment

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"vault-plugin-secrets-ksef/client"
)

// KeyType is a kind of key that KSeF certifies.
type KeyType string

// The kinds of key (KSeF's certyfikaty-KSeF.md).
const (
	KeyP256    KeyType = "ec-p256"
	KeyRSA2048 KeyType = "rsa-2048"
)

const rsaBits = 2048

// ParseKeyType refuses a kind that KSeF does not certify, with a *client.InputError that names the
// field.
func ParseKeyType(field, value string) (KeyType, error) {
	kind := KeyType(value)
	if kind == KeyP256 || kind == KeyRSA2048 {
		return kind, nil
	}
	return "", &client.InputError{
		Field: field, Fault: "is not known", Remedy: fmt.Sprintf("give %s or %s", KeyP256, KeyRSA2048),
	}
}

func newKey(kind KeyType) (crypto.Signer, error) {
	var key crypto.Signer
	var err error
	switch kind {
	case KeyRSA2048:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case KeyP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		err = fmt.Errorf("the kind %q is not known", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// newKeyAndRequest returns a new key, PEM, and the PKCS#10 request for its certificate, DER.
func newKeyAndRequest(kind KeyType, subject client.EnrollmentData) (privateKey string, csr []byte, err error) {
	key, err := newKey(kind)
	if err != nil {
		return "", nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("encoding the new key: %w", err)
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{ExtraNames: attributes(subject)}}
	if csr, err = x509.CreateCertificateRequest(rand.Reader, request, key); err != nil {
		return "", nil, fmt.Errorf("making the request for a certificate: %w", err)
	}
	return encodePEM("PRIVATE KEY", der), csr, nil
}

// attributes are exactly the subject that KSeF has given, in the order of KSeF's official client;
// anything else is refused (25003).
func attributes(subject client.EnrollmentData) []pkix.AttributeTypeAndValue {
	var list []pkix.AttributeTypeAndValue
	for _, attribute := range []struct {
		arc   int // below 2.5.4
		value string
	}{
		{3, subject.CommonName},
		{4, subject.Surname},
		{42, subject.GivenName},
		{10, subject.OrganizationName},
		{97, subject.OrganizationIdentifier},
		{6, subject.CountryName},
		{5, subject.SerialNumber},
		{45, subject.UniqueIdentifier},
	} {
		if attribute.value != "" {
			oid := asn1.ObjectIdentifier{2, 5, 4, attribute.arc}
			list = append(list, pkix.AttributeTypeAndValue{Type: oid, Value: attribute.value})
		}
	}
	return list
}
