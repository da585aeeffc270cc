// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// MinRSABits is the shortest RSA key that KSeF accepts.
const MinRSABits = 2048

// Signer signs login requests with one certificate. It is safe for concurrent use if its key is.
type Signer struct {
	key                crypto.Signer
	method             string
	value              func(signature []byte) ([]byte, error)
	signingCertificate string
	keyInfo            string
}

// NewSigner returns a signer. The certificate must have an RSA key of at least 2048 bits
// (signatures are PKCS#1 v1.5 with SHA-256) or an ECDSA key on P-256 (with SHA-256), and key must
// be its private key.
func NewSigner(certificate *x509.Certificate, key crypto.Signer) (*Signer, error) {
	s := &Signer{key: key}
	switch public := certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < MinRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits is too short: KSeF asks for %d or more", public.N.BitLen(), MinRSABits)
		}
		s.method, s.value = methodRSA, rsaValue
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, fmt.Errorf("an ECDSA key on %s cannot be used: it must be on P-256", public.Curve.Params().Name)
		}
		s.method, s.value = methodECDSA, ecdsaValue
	default:
		return nil, fmt.Errorf("a key of type %T cannot be used: it must be RSA or ECDSA on P-256", public)
	}
	if !BelongsTo(key, certificate) {
		return nil, errors.New("the private key does not belong to the certificate")
	}
	issuer, err := issuerName(certificate.RawIssuer)
	if err != nil {
		return nil, fmt.Errorf("issuer of the certificate: %w", err)
	}
	s.signingCertificate = signingCertificate(digest(certificate.Raw), issuer, certificate.SerialNumber.String())
	s.keyInfo = keyInfo(base64.StdEncoding.EncodeToString(certificate.Raw))
	return s, nil
}

// BelongsTo says that the key is the private key of the certificate.
func BelongsTo(key crypto.Signer, certificate *x509.Certificate) bool {
	public, known := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return known && public.Equal(certificate.PublicKey)
}

// Sign returns the signed document, to be sent without any change. signingTime is written to the
// second, in UTC; KSeF refuses one ahead of its own clock. An error names the value that violates
// KSeF's schema, or why the key did not sign.
func (s *Signer) Sign(request Request, signingTime time.Time) ([]byte, error) {
	body, err := request.body()
	if err != nil {
		return nil, err
	}
	id := rand.Text()
	properties := signedProperties(id, signingTime, s.signingCertificate)
	info := signedInfo(id, s.method, digest([]byte(rootStart+body+rootEnd)), digest([]byte(properties)))
	value, err := s.sign(info)
	if err != nil {
		return nil, err
	}
	return []byte(declaration + rootStart + body + signature(id, info, value, s.keyInfo, properties) + rootEnd), nil
}

func (s *Signer) sign(info string) (string, error) {
	hash := sha256.Sum256([]byte(info))
	raw, err := s.key.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	value, err := s.value(raw)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return base64.StdEncoding.EncodeToString(value), nil
}

// digest returns the SHA-256 in base64, as in DigestValue.
func digest(content []byte) string {
	hash := sha256.Sum256(content)
	return base64.StdEncoding.EncodeToString(hash[:])
}
