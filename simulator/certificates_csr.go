// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"slices"
)

// readCSR reads a PKCS#10 request: its key must be RSA with 2048 bits or P-256, its signature
// PKCS#1 v1.5, PSS or ECDSA with SHA-1 or SHA-2, and it must hold. PSS with SHA-1, which KSeF lists
// too, is not supported by package x509.
func readCSR(encoded string) (*x509.CertificateRequest, *apiError) {
	der, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(der) == 0 {
		return nil, badInput("Pole csr musi być zapisane w base64.")
	}
	badCSR := &apiError{Code: 25004, Description: "Niepoprawny format CSR lub niepoprawny podpis CSR."}
	csr, err := x509.ParseCertificateRequest(der)
	switch {
	case err != nil:
		return nil, badCSR
	case !certifiable(csr.PublicKey):
		return nil, &apiError{Code: 25010, Description: "Nieprawidłowy typ lub długość klucza."}
	case !slices.Contains(csrAlgorithms(), csr.SignatureAlgorithm):
		return nil, &apiError{Code: 25011, Description: "Nieprawidłowy algorytm podpisu CSR."}
	case csr.CheckSignature() != nil:
		return nil, badCSR
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
