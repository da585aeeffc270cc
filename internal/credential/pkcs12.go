// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// maxDepth is far more nesting than a PKCS#12 file has.
const maxDepth = 32

const (
	remedyPKCS12         = "give a file, in base64, as made by: openssl pkcs12 -export -in certificate.pem -inkey private.key"
	remedyPKCS12Password = "give the password that was set when the file was made"
)

func (s Source) readPKCS12() (*material, error) {
	if len(s.PKCS12) == 0 {
		return nil, &InputError{Field: FieldPKCS12, Fault: "is missing, and its password is given", Remedy: remedyPKCS12}
	}
	if !affordable(s.PKCS12, 0) {
		return nil, &InputError{
			Field: FieldPKCS12, Fault: fmt.Sprintf("is nested too deeply or asks for more than %d iterations of its key derivation", maxIterations),
			Remedy: remedyPKCS12,
		}
	}
	key, certificate, others, err := pkcs12.DecodeChain(s.PKCS12, s.PKCS12Password)
	if err != nil {
		return nil, s.explainPKCS12(err)
	}
	signer, err := asSigner(FieldPKCS12, key)
	if err != nil {
		return nil, err
	}
	return &material{append([]*x509.Certificate{certificate}, others...), signer, FieldPKCS12, FieldPKCS12}, nil
}

func (s Source) explainPKCS12(err error) error {
	wrongPassword := errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption)
	switch {
	case wrongPassword && s.PKCS12Password == "":
		return &InputError{Field: FieldPKCS12Password, Fault: "is missing, and the file is encrypted", Remedy: remedyPKCS12Password}
	case wrongPassword:
		return &InputError{Field: FieldPKCS12Password, Fault: "does not decrypt the file", Remedy: remedyPKCS12Password}
	case s.PKCS12Password != "" && isPlainPKCS12(s.PKCS12):
		return &InputError{Field: FieldPKCS12Password, Fault: "is given, but the file is not encrypted", Remedy: "leave it out, or give the encrypted file"}
	default:
		return &InputError{Field: FieldPKCS12, Fault: fmt.Sprintf("cannot be read (%v)", err), Remedy: remedyPKCS12}
	}
}

func isPlainPKCS12(der []byte) bool {
	_, _, _, err := pkcs12.DecodeChain(der, "")
	return err == nil
}

// affordable says whether no key derivation in the file asks for too much work.
// All those of PKCS#12 have the salt, an OCTET STRING, followed by the number of
// iterations, an INTEGER (RFC 7292 section 4 and appendix C, RFC 8018 appendix A.2).
func affordable(der cryptobyte.String, depth int) bool {
	if depth > maxDepth {
		return false
	}
	afterSalt := false
	for !der.Empty() {
		var (
			content cryptobyte.String
			tag     asn1.Tag
		)
		if !der.ReadAnyASN1(&content, &tag) {
			return true
		}
		if tag == asn1.INTEGER && afterSalt && new(big.Int).SetBytes(content).Cmp(big.NewInt(maxIterations)) > 0 {
			return false
		}
		if holdsElements(tag, content) && !affordable(content, depth+1) {
			return false
		}
		afterSalt = tag == asn1.OCTET_STRING
	}
	return true
}

// holdsElements tells an OCTET STRING that wraps another structure from one that
// is a salt or a ciphertext.
func holdsElements(tag asn1.Tag, content cryptobyte.String) bool {
	const constructed = 0x20
	if tag != asn1.OCTET_STRING {
		return tag&constructed != 0
	}
	return content.ReadASN1(new(cryptobyte.String), asn1.SEQUENCE) && content.Empty()
}
