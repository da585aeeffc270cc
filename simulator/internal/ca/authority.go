// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ca is KSeF's certificate authority: it issues the certificates that subjects request, and
// has the key pairs for which clients encrypt. It also makes the certificate of an HTTPS server.
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

// authorityYears is how long the authority's certificate is valid.
const authorityYears = 50

// certificateYears is how long KSeF's certificates are valid by default.
const certificateYears = 2

// Authority issues certificates to subjects.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes an authority with the name of the one of KSeF's TEST environment.
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

// Issue makes a certificate that is valid for the lifetime, or for two years when that is zero.
func (a Authority) Issue(usage x509.KeyUsage, subject []pkix.AttributeTypeAndValue, key any,
	from time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	to := from.AddDate(certificateYears, 0, 0)
	if lifetime > 0 {
		to = from.Add(lifetime)
	}
	octets := make([]byte, 8)
	_, _ = rand.Read(octets) // crypto/rand.Read never returns an error
	octets[0] = 1            // a positive number with 16 digits, as real ones
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

// Issued reports whether a certificate names this authority as its issuer, and whether this
// authority has issued it.
func (a Authority) Issued(leaf *x509.Certificate) (named, issued bool) {
	named = bytes.Equal(leaf.RawIssuer, a.certificate.RawSubject)
	return named, named && leaf.CheckSignatureFrom(a.certificate) == nil
}

// NotAfter is when the authority's certificate expires.
func (a Authority) NotAfter() time.Time { return a.certificate.NotAfter }

// SerialNumber returns a certificate's serial number as 16 upper-case hexadecimal digits.
func SerialNumber(certificate *x509.Certificate) string {
	return strings.ToUpper(hex.EncodeToString(certificate.SerialNumber.FillBytes(make([]byte, 8))))
}

// signCertificate makes a key and a certificate for it. Without an issuer it is self-signed.
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

// NewKey makes a private key of a kind: ec (P-256), which is the default, or rsa (2048 bits).
func NewKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "", "ec":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("the key %q is not known: use ec or rsa", kind)
}
