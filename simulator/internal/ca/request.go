// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
)

// The reasons to refuse a request for a certificate.
var (
	ErrRequest          = errors.New("the request is malformed or its signature is wrong")
	ErrRequestKey       = errors.New("the key of the request has another type or length")
	ErrRequestAlgorithm = errors.New("the request is signed with another algorithm")
)

// ReadRequest reads a PKCS#10 request and verifies its signature. The key must be RSA with 2048
// bits or P-256, the signature PKCS#1 v1.5, PSS or ECDSA with SHA-1 or SHA-2. PSS with SHA-1, which
// KSeF lists too, is not supported by package x509.
func ReadRequest(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	switch {
	case err != nil:
		return nil, ErrRequest
	case !certifiable(csr.PublicKey):
		return nil, ErrRequestKey
	case !slices.Contains(csrAlgorithms(), csr.SignatureAlgorithm):
		return nil, ErrRequestAlgorithm
	case csr.CheckSignature() != nil:
		return nil, ErrRequest
	}
	return csr, nil
}

func certifiable(key any) bool {
	switch public := key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() == 2048
	case *ecdsa.PublicKey:
		return public.Curve == elliptic.P256()
	}
	return false
}

func csrAlgorithms() []x509.SignatureAlgorithm {
	return []x509.SignatureAlgorithm{
		x509.SHA1WithRSA, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA1, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	}
}
