// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ca is the certificate authority of KSeF: it issues the certificates that subjects ask for,
// and has the public keys for which clients encrypt. It also makes the certificate of the server.
package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// authorityYears is how long KSeF's own authority is good.
const authorityYears = 50

// certificateYears is how long KSeF's certificates are good, unless told otherwise.
const certificateYears = 2

// Authority is KSeF's own: it issues the certificates that subjects ask for.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// Issue makes a certificate. One of the type Authentication is for digitalSignature, one of the
// type Offline for nonRepudiation (certyfikaty-KSeF.md). It is good for the lifetime, two years
// when that is zero.
func (a Authority) Issue(usage x509.KeyUsage, subject []pkix.AttributeTypeAndValue, key any,
	from time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	to := from.AddDate(certificateYears, 0, 0)
	if lifetime > 0 {
		to = from.Add(lifetime)
	}
	octets := make([]byte, 8)
	_, _ = rand.Read(octets) // crypto/rand.Read never returns an error
	octets[0] = 1            // so that the number is positive and has 16 digits, as real ones
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(octets), Subject: pkix.Name{ExtraNames: subject},
		NotBefore: from, NotAfter: to, KeyUsage: usage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Issued tells whether a certificate names this authority as its issuer, and whether it is right.
func (a Authority) Issued(leaf *x509.Certificate) (named, issued bool) {
	named = bytes.Equal(leaf.RawIssuer, a.certificate.RawSubject)
	return named, named && leaf.CheckSignatureFrom(a.certificate) == nil
}

// NotAfter is when the authority's certificate expires.
func (a Authority) NotAfter() time.Time { return a.certificate.NotAfter }

// NewAuthority makes an authority with the name that the one of KSeF's TEST environment
// has.
func NewAuthority(now time.Time) (Authority, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject: pkix.Name{
			Country: []string{"PL"}, Organization: []string{"Ministerstwo Finansów"},
			OrganizationalUnit: []string{"Krajowa Administracja Skarbowa"}, CommonName: "TEST CCK KSeF",
		},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certificate, key, err := signCertificate(template, nil, nil)
	if err != nil {
		return Authority{}, fmt.Errorf("make the authority of KSeF's certificates: %w", err)
	}
	return Authority{certificate, key}, nil
}

// SerialNumber writes the number of a certificate of this authority as 16 upper-case hexadecimal
// digits.
func SerialNumber(certificate *x509.Certificate) string {
	return strings.ToUpper(hex.EncodeToString(certificate.SerialNumber.FillBytes(make([]byte, 8))))
}

// signCertificate makes a key and a certificate for it; a nil issuer makes it self-signed.
func signCertificate(template, issuer *x509.Certificate, issuerKey crypto.Signer) (*x509.Certificate, crypto.Signer,
	error) {
	key, err := NewKey("ec")
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, nil, fmt.Errorf("create a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read the new certificate: %w", err)
	}
	return certificate, key, nil
}

func NewKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "", "ec":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("the key %q is not known: use ec or rsa", kind)
}
