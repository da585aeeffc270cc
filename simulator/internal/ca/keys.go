// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ca

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"
)

// PublicKeys are the two key pairs of the Ministry: one for tokens, one for the keys of invoices.
type PublicKeys struct {
	Token, Invoices KeyPair
}

// KeyPair is a private key with a certificate of its public key.
type KeyPair struct {
	Private     *rsa.PrivateKey
	Certificate *x509.Certificate
}

// PublicKeyID returns KSeF's identifier of the public key.
func (k KeyPair) PublicKeyID() string {
	return Digest(k.Certificate.RawSubjectPublicKeyInfo)
}

// NewPublicKeys makes both key pairs.
func NewPublicKeys(now time.Time) (PublicKeys, error) {
	token, err := newKeyPair(1, now)
	if err != nil {
		return PublicKeys{}, err
	}
	invoices, err := newKeyPair(2, now)
	return PublicKeys{token, invoices}, err
}

// newKeyPair makes a key pair whose certificate is already valid by the simulator's clock and by
// that of its clients, and as long as the authority. KSeF replaces its keys, the simulator does
// not.
func newKeyPair(serial int64, now time.Time) (KeyPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make a public key: %w", err)
	}
	begin := now
	if clients := time.Now(); clients.Before(now) {
		begin = clients
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject: pkix.Name{Country: []string{"PL"}, Organization: []string{"Symulator KSeF"},
			CommonName: "Symulator KSeF"},
		NotBefore: begin.AddDate(0, 0, -1), NotAfter: now.AddDate(authorityYears, 0, 0),
		KeyUsage: x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make the certificate of a public key: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return KeyPair{key, certificate}, err
}

// Digest returns a SHA-256 in base64, as KSeF identifies keys and certificates.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}
