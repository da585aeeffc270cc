// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // some programs encrypt keys with it; nothing is encrypted here
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the default of PBKDF2, and sound in HMAC
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// maxIterations bounds the work of all key derivations of an encrypted file together, to about a
// second. It exceeds today's recommendations for any hash. A derivation cannot be interrupted.
const maxIterations = 2_000_000

var errWrongPassword = errors.New("wrong password")

// The structures of RFC 5958 section 3 and RFC 8018 appendix A.
type (
	encryptedPrivateKeyInfo struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	privateKeyInfo struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}
	pbes2Parameters struct {
		KeyDerivation, Encryption pkix.AlgorithmIdentifier
	}
	pbkdf2Parameters struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// decryptPKCS8 decrypts an EncryptedPrivateKeyInfo made with PBES2, PBKDF2 and a cipher in CBC
// mode. It returns errWrongPassword for a result that is no key; the format has no checksum.
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var info encryptedPrivateKeyInfo
	if err := unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("it is not an encrypted PKCS#8 key: %w", err)
	}
	if info.Algorithm.Algorithm.String() != oidPBES2 {
		return nil, errors.New("its encryption is not PBES2")
	}
	var parameters pbes2Parameters
	if err := unmarshal(info.Algorithm.Parameters.FullBytes, &parameters); err != nil {
		return nil, fmt.Errorf("parameters of PBES2: %w", err)
	}
	newCipher, keyLength, err := cipherOf(parameters.Encryption.Algorithm)
	if err != nil {
		return nil, err
	}
	key, err := deriveKey(parameters.KeyDerivation, password, keyLength)
	if err != nil {
		return nil, err
	}
	block, err := newCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	var iv []byte
	if err := unmarshal(parameters.Encryption.Parameters.FullBytes, &iv); err != nil {
		return nil, fmt.Errorf("initialisation vector: %w", err)
	}
	return decryptCBC(block, iv, info.Data)
}

func cipherOf(oid asn1.ObjectIdentifier) (newCipher func([]byte) (cipher.Block, error), keyLength int, err error) {
	switch oid.String() {
	case "2.16.840.1.101.3.4.1.2":
		return aes.NewCipher, 16, nil
	case "2.16.840.1.101.3.4.1.22":
		return aes.NewCipher, 24, nil
	case "2.16.840.1.101.3.4.1.42":
		return aes.NewCipher, 32, nil
	case "1.2.840.113549.3.7":
		return des.NewTripleDESCipher, 24, nil
	}
	return nil, 0, fmt.Errorf("its cipher %v is not supported", oid)
}

func deriveKey(algorithm pkix.AlgorithmIdentifier, password string, keyLength int) ([]byte, error) {
	if algorithm.Algorithm.String() != "1.2.840.113549.1.5.12" {
		return nil, errors.New("its key derivation is not PBKDF2")
	}
	var parameters pbkdf2Parameters
	if err := unmarshal(algorithm.Parameters.FullBytes, &parameters); err != nil {
		return nil, fmt.Errorf("parameters of PBKDF2: %w", err)
	}
	if parameters.Iterations < 1 || parameters.Iterations > maxIterations {
		return nil, fmt.Errorf("it asks for %d iterations, which is not between 1 and %d", parameters.Iterations, maxIterations)
	}
	newHash, err := hashOf(parameters.PRF.Algorithm)
	if err != nil {
		return nil, err
	}
	return pbkdf2.Key(newHash, password, parameters.Salt, parameters.Iterations, keyLength)
}

// hashOf returns the hash of the pseudo-random function, by default HMAC-SHA-1.
func hashOf(oid asn1.ObjectIdentifier) (func() hash.Hash, error) {
	switch oid.String() {
	case "", "1.2.840.113549.2.7":
		return sha1.New, nil
	case "1.2.840.113549.2.9":
		return sha256.New, nil
	case "1.2.840.113549.2.10":
		return sha512.New384, nil
	case "1.2.840.113549.2.11":
		return sha512.New, nil
	}
	return nil, fmt.Errorf("its pseudo-random function %v is not supported", oid)
}

// decryptCBC decrypts, removes the padding of PKCS#7, and checks that the result is a private key.
func decryptCBC(block cipher.Block, iv, data []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errors.New("its length does not fit its cipher")
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	last := plain[len(plain)-1]
	padding := int(last)
	if padding == 0 || padding > size {
		return nil, errWrongPassword
	}
	plain, tail := plain[:len(plain)-padding], plain[len(plain)-padding:]
	if !bytes.Equal(tail, bytes.Repeat([]byte{last}, padding)) {
		return nil, errWrongPassword
	}
	var key privateKeyInfo
	if _, err := asn1.Unmarshal(plain, &key); err != nil {
		return nil, errWrongPassword
	}
	return plain, nil
}

// unmarshal is asn1.Unmarshal without trailing data.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) != 0 {
		err = errors.New("it is followed by other data")
	}
	return err
}
