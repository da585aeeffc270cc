// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
)

const (
	remedyKind = "use a certificate with an RSA key of at least 2048 bits or an ECDSA key on P-256"
	remedyUse  = "use a KSeF certificate of the type Authentication, or another with the key usage digitalSignature"
)

// CheckValidity refuses a certificate that has expired or is not valid yet with a
// *client.InputError; the cause is ErrNotYetValid in the latter case.
func (c *Credential) CheckValidity(now time.Time) error {
	switch {
	case now.Before(c.Certificate.NotBefore):
		return &client.InputError{
			Field: c.field, Fault: "is not valid before " + c.Certificate.NotBefore.UTC().Format(time.RFC3339),
			Remedy: "wait until then, or use a certificate that is valid now", Cause: ErrNotYetValid,
		}
	case now.After(c.Certificate.NotAfter):
		return &client.InputError{
			Field: c.field, Fault: "expired at " + c.Certificate.NotAfter.UTC().Format(time.RFC3339),
			Remedy: "use a certificate that is valid now",
		}
	}
	return nil
}

// checkUse refuses certificates that KSeF accepts for no login.
func (c *Credential) checkUse() error {
	if fault := kindFault(c.Certificate); fault != "" {
		return &client.InputError{Field: c.field, Fault: fault, Remedy: remedyKind}
	}
	if c.Certificate.IsCA {
		return &client.InputError{
			Field: c.field, Fault: "is the certificate of a certification authority",
			Remedy: "use one made for a person or company (openssl req -x509 needs -addext basicConstraints=critical,CA:FALSE)",
		}
	}
	usage := c.Certificate.KeyUsage
	switch {
	case usage == 0 || usage&x509.KeyUsageDigitalSignature != 0:
		return nil
	case usage&x509.KeyUsageContentCommitment != 0:
		return &client.InputError{Field: c.field, Fault: "has the key usage nonRepudiation alone, as KSeF's certificates of the type Offline have, and cannot log in", Remedy: remedyUse}
	default:
		return &client.InputError{Field: c.field, Fault: "lacks the key usage digitalSignature and cannot log in", Remedy: remedyUse}
	}
}

// kindFault returns an empty text for the signer's two kinds of key.
func kindFault(certificate *x509.Certificate) string {
	switch public := certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < xades.MinRSABits {
			return fmt.Sprintf("has an RSA key of %d bits, which is too short", bits)
		}
		return ""
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return "has an ECDSA key on " + public.Curve.Params().Name
		}
		return ""
	}
	return fmt.Sprintf("has a key of the kind %v", certificate.PublicKeyAlgorithm)
}
