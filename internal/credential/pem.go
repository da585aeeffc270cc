// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"vault-plugin-secrets-ksef/client"
)

// The accepted types of PEM blocks.
const (
	blockCertificate    = "CERTIFICATE"
	blockPKCS8          = "PRIVATE KEY"
	blockEncryptedPKCS8 = "ENCRYPTED PRIVATE KEY"
	blockPKCS1          = "RSA PRIVATE KEY"
	blockSEC1           = "EC PRIVATE KEY"
	blockECParameters   = "EC PARAMETERS"
)

const (
	remedyCertificatePEM = "give PEM that begins with -----BEGIN CERTIFICATE----- (from DER: openssl x509 -inform der -in certificate.cer)"
	remedyKeyPEM         = "give one private key as PEM that begins with -----BEGIN PRIVATE KEY----- or -----BEGIN ENCRYPTED PRIVATE KEY-----"
	remedyEncryption     = "encrypt it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in old.key -out new.key"
)

// blocks decodes PEM. The decoder skips damaged blocks silently, so they are counted.
func blocks(field, text, remedy string) ([]*pem.Block, error) {
	var found []*pem.Block
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		found = append(found, block)
	}
	begun := strings.Count(text, "-----BEGIN ")
	if begun == 0 {
		return nil, &client.InputError{Field: field, Fault: "is not PEM", Remedy: remedy}
	}
	if begun != len(found) {
		return nil, &client.InputError{Field: field, Fault: "has a PEM block that is damaged or cut off", Remedy: remedy}
	}
	return found, nil
}

// ReadCertificates reads certificates without a key.
func ReadCertificates(text string) ([]*x509.Certificate, error) {
	found, err := blocks(FieldCertificate, text, remedyCertificatePEM)
	if err != nil {
		return nil, err
	}
	var certificates []*x509.Certificate
	for _, block := range found {
		if strings.Contains(block.Type, blockPKCS8) {
			return nil, &client.InputError{Field: FieldCertificate, Fault: "holds a private key", Remedy: "give the key as private_key"}
		}
		if block.Type != blockCertificate {
			return nil, &client.InputError{Field: FieldCertificate, Fault: fmt.Sprintf("holds a PEM block of type %q", block.Type), Remedy: remedyCertificatePEM}
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &client.InputError{Field: FieldCertificate, Fault: fmt.Sprintf("cannot be read (%v)", err), Remedy: remedyCertificatePEM}
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

func readPrivateKey(text, password string) (any, error) {
	block, err := keyBlock(text)
	if err != nil {
		return nil, err
	}
	if block.Headers["DEK-Info"] != "" {
		return nil, &client.InputError{Field: FieldPrivateKey, Fault: "is encrypted in the old format of OpenSSL, which is unsafe", Remedy: remedyEncryption}
	}
	if block.Type == blockEncryptedPKCS8 {
		return readEncryptedKey(block.Bytes, password)
	}
	if password != "" {
		return nil, &client.InputError{
			Field: FieldPrivateKeyPassword, Fault: "is given, but the private key is not encrypted",
			Remedy: "leave it out, or give the encrypted key",
		}
	}
	return parseKey(block)
}

// keyBlock returns the only private key. openssl ecparam writes the parameters of the curve before
// it.
func keyBlock(text string) (*pem.Block, error) {
	found, err := blocks(FieldPrivateKey, text, remedyKeyPEM)
	if err != nil {
		return nil, err
	}
	var key *pem.Block
	for _, block := range found {
		switch block.Type {
		case blockECParameters:
		case blockPKCS8, blockEncryptedPKCS8, blockPKCS1, blockSEC1:
			if key != nil {
				return nil, &client.InputError{Field: FieldPrivateKey, Fault: "holds more than one private key", Remedy: remedyKeyPEM}
			}
			key = block
		default:
			return nil, &client.InputError{Field: FieldPrivateKey, Fault: fmt.Sprintf("holds a PEM block of type %q", block.Type), Remedy: remedyKeyPEM}
		}
	}
	if key == nil {
		return nil, &client.InputError{Field: FieldPrivateKey, Fault: "holds no private key", Remedy: remedyKeyPEM}
	}
	return key, nil
}

// maxKey bounds a private key in bytes: RSA-16384 has 9 KiB. Checking a longer one takes minutes.
const maxKey = 16 << 10

var errLongKey = fmt.Errorf("its private key is longer than %d bytes", maxKey)

func parseKey(block *pem.Block) (key any, err error) {
	if len(block.Bytes) > maxKey {
		return nil, &client.InputError{Field: FieldPrivateKey, Fault: fmt.Sprintf("is longer than %d bytes", maxKey), Remedy: remedyKind}
	}
	switch block.Type {
	case blockPKCS1:
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case blockSEC1:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, &client.InputError{Field: FieldPrivateKey, Fault: fmt.Sprintf("cannot be read (%v)", err), Remedy: remedyKeyPEM}
	}
	return key, nil
}

func readEncryptedKey(der []byte, password string) (any, error) {
	if password == "" {
		return nil, &client.InputError{
			Field: FieldPrivateKeyPassword, Fault: "is missing, and the private key is encrypted",
			Remedy: "give the password that was set when the key was saved",
		}
	}
	plain, err := decryptPKCS8(der, password)
	if errors.Is(err, errWrongPassword) {
		return nil, &client.InputError{
			Field: FieldPrivateKeyPassword, Fault: "does not decrypt the private key",
			Remedy: "give the password that was set when the key was saved",
		}
	}
	if err != nil {
		return nil, &client.InputError{Field: FieldPrivateKey, Fault: fmt.Sprintf("cannot be decrypted (%v)", err), Remedy: remedyEncryption}
	}
	return parseKey(&pem.Block{Type: blockPKCS8, Bytes: plain})
}
