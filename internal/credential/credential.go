// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package credential reads the certificate and private key that log in to KSeF, and determines as
// whom KSeF identifies their holder.
package credential

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
)

// The fields of a credential.
const (
	FieldCertificate        = "certificate"
	FieldPrivateKey         = "private_key"
	FieldPrivateKeyPassword = "private_key_password"
	FieldPKCS12             = "pkcs12"
	FieldPKCS12Password     = "pkcs12_password"
)

// ErrNotYetValid is returned for a certificate before the start of its validity. KSeF has issued
// some that start one or two hours late, with local time marked as UTC (KSeF issue 160), so that
// waiting can help.
var ErrNotYetValid = errors.New("the certificate is not valid yet")

// Source is a credential as given: either Certificate with PrivateKey, or PKCS12.
type Source struct {
	// Certificate is PEM. It may include issuers' certificates, in any order.
	Certificate string
	// PrivateKey is PEM: PKCS#8, encrypted PKCS#8 (PBES2), PKCS#1 or SEC 1.
	PrivateKey string
	// PrivateKeyPassword decrypts an encrypted PrivateKey.
	PrivateKeyPassword string
	// PKCS12 is DER.
	PKCS12         []byte
	PKCS12Password string
}

// Credential is a certificate that can log in to KSeF, with its private key. It prints, logs and
// marshals without the key.
type Credential struct {
	Certificate *x509.Certificate
	// Chain are the other given certificates, in their order.
	Chain []*x509.Certificate
	// Key is RSA of at least 2048 bits or ECDSA on P-256, and matches Certificate.
	Key      crypto.Signer
	Identity Identity

	field string
}

// Read reads a credential. CheckValidity checks whether the certificate is valid now. Errors are a
// *client.InputError.
func Read(source Source) (*Credential, error) {
	m, err := source.read()
	if err != nil {
		return nil, err
	}
	signer, can := m.key.(crypto.Signer)
	if !can { // such as a key for key agreement
		return nil, &client.InputError{Field: m.keyField, Fault: "holds a private key that cannot sign", Remedy: remedyKind}
	}
	credential := &Credential{Key: signer, field: m.certificateField}
	for _, certificate := range m.certificates {
		if credential.Certificate == nil && xades.BelongsTo(signer, certificate) {
			credential.Certificate = certificate
			continue
		}
		credential.Chain = append(credential.Chain, certificate)
	}
	if credential.Certificate == nil {
		return nil, &client.InputError{
			Field: m.keyField, Fault: "does not belong to the certificate",
			Remedy: "give the key that the certificate was issued for",
		}
	}
	if err := credential.checkUse(); err != nil {
		return nil, err
	}
	credential.Identity = Identify(credential.Certificate)
	return credential, nil
}

// material is the content of a source, with the fields to name in errors.
type material struct {
	certificates               []*x509.Certificate
	key                        any
	certificateField, keyField string
}

func (s Source) read() (*material, error) {
	hasPEM := s.Certificate != "" || s.PrivateKey != "" || s.PrivateKeyPassword != ""
	hasPKCS12 := len(s.PKCS12) > 0 || s.PKCS12Password != ""
	switch {
	case hasPEM && hasPKCS12:
		return nil, &client.InputError{
			Field: FieldPKCS12, Fault: "is given together with certificate and private_key",
			Remedy: "give either pkcs12, or certificate with private_key",
		}
	case hasPKCS12:
		return s.readPKCS12()
	default:
		return s.readPEM()
	}
}

func (s Source) readPEM() (*material, error) {
	if s.Certificate == "" {
		return nil, &client.InputError{
			Field: FieldCertificate, Fault: "is missing",
			Remedy: "give it together with private_key, or give both as pkcs12",
		}
	}
	if s.PrivateKey == "" {
		return nil, &client.InputError{
			Field: FieldPrivateKey, Fault: "is missing",
			Remedy: "give the key that the certificate was issued for, as PEM",
		}
	}
	certificates, err := ReadCertificates(s.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := readPrivateKey(s.PrivateKey, s.PrivateKeyPassword)
	if err != nil {
		return nil, err
	}
	return &material{certificates, key, FieldCertificate, FieldPrivateKey}, nil
}

// Consists reports whether the certificates, in any order, are the credential's own and its chain.
// A nil credential has none.
func (c *Credential) Consists(certificates []*x509.Certificate) bool {
	if c == nil || len(certificates) != len(c.Chain)+1 {
		return false
	}
	own := append([]*x509.Certificate{c.Certificate}, c.Chain...)
	for _, certificate := range certificates {
		at := slices.IndexFunc(own, certificate.Equal)
		if at < 0 {
			return false
		}
		own = slices.Delete(own, at, at+1)
	}
	return true
}

// PEM returns the credential in the form that is stored and that Read accepts: the certificate
// followed by its chain, and the key as unencrypted PKCS#8.
func (c *Credential) PEM() (certificate, key string, err error) {
	for _, one := range append([]*x509.Certificate{c.Certificate}, c.Chain...) {
		certificate += string(pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: one.Raw}))
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return "", "", fmt.Errorf("encoding the private key: %w", err)
	}
	return certificate, string(pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: der})), nil
}
