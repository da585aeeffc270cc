// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto"
	"crypto/x509"

	"vault-plugin-secrets-ksef/client"
)

// material is the content of a source, with the fields to name in errors.
type material struct {
	certificates               []*x509.Certificate
	key                        crypto.Signer
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
	certificates, err := readCertificates(s.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := readPrivateKey(s.PrivateKey, s.PrivateKeyPassword)
	if err != nil {
		return nil, err
	}
	return &material{certificates, key, FieldCertificate, FieldPrivateKey}, nil
}

// asSigner refuses keys that cannot sign, such as those for key agreement.
func asSigner(field string, key any) (crypto.Signer, error) {
	signer, can := key.(crypto.Signer)
	if !can {
		return nil, &client.InputError{Field: field, Fault: "holds a private key that cannot sign", Remedy: remedyKind}
	}
	return signer, nil
}
