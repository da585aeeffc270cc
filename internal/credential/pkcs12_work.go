// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

var errTooMuchWork = fmt.Errorf("it asks for more than %d iterations of its key derivation, all together", maxIterations)

// The structures of RFC 7292 section 4, RFC 5652 section 6.1 and RFC 8018 appendix A, with the same
// fields and tags as in the decoder. Both use encoding/asn1, so both see the same.
type (
	pfx struct {
		Version  int
		AuthSafe contentInfo
		MAC      macData `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	macData struct {
		MAC        digestInfo
		Salt       []byte
		Iterations int `asn1:"optional,default:1"`
	}
	digestInfo struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	encryptedData struct {
		Version int
		Content encryptedContent
	}
	encryptedContent struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte `asn1:"tag:0,optional"`
	}
	safeBag struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue `asn1:"tag:0,explicit"`
		Attributes []attribute   `asn1:"set,optional"`
	}
	attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"set"`
	}
	pbeParameters struct {
		Salt       []byte
		Iterations int
	}
	// derivation is pbkdf2Parameters with a salt of any kind.
	derivation struct {
		Salt       asn1.RawValue
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	pbmac1Parameters struct {
		KeyDerivation, MAC pkix.AlgorithmIdentifier
	}
)

const (
	oidData          = "1.2.840.113549.1.7.1"
	oidEncryptedData = "1.2.840.113549.1.7.6"
	oidKeyBag        = "1.2.840.113549.1.12.10.1.1"
	oidShroudedKey   = "1.2.840.113549.1.12.10.1.2"
	oidPBES2         = "1.2.840.113549.1.5.13"
	oidPBMAC1        = "1.2.840.113549.1.5.14"
)

// container is a PKCS#12 file, read as far as that needs no derivation.
type container struct {
	hasMAC bool
	// plain and encrypted are the parts without and with encryption, each as a contentInfo in DER.
	plain, encrypted []asn1.RawValue
	// keys counts the private keys in plain, encrypted or not.
	keys int
	// encryptedFirst is set if an encrypted part precedes a plain one.
	encryptedFirst bool
	// work is the sum of the iterations to open all of it.
	work int
	// attempts is the number of forms of the password.
	attempts int
}

// readContainer counts the work to open a file with a password. It fails with errTooMuchWork as
// soon as that exceeds maxIterations.
func readContainer(der []byte, password string) (*container, error) {
	var file pfx
	if err := unmarshal(der, &file); err != nil {
		return nil, err
	}
	if file.AuthSafe.Type.String() != oidData {
		return nil, errors.New("it is not protected by a password")
	}
	c := &container{hasMAC: len(file.MAC.MAC.Algorithm.Algorithm) > 0, attempts: len(encodings(password))}
	if c.hasMAC {
		if err := c.countMAC(file.MAC); err != nil {
			return nil, err
		}
	}
	var octets asn1.RawValue
	var parts []asn1.RawValue
	if err := unmarshal(file.AuthSafe.Content.Bytes, &octets); err != nil {
		return nil, err
	}
	if err := unmarshal(octets.Bytes, &parts); err != nil {
		return nil, err
	}
	for _, part := range parts {
		if err := c.readPart(part); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *container) readPart(part asn1.RawValue) error {
	var info contentInfo
	if err := unmarshal(part.FullBytes, &info); err != nil {
		return err
	}
	switch info.Type.String() {
	case oidData:
		c.encryptedFirst = c.encryptedFirst || len(c.encrypted) > 0
		c.plain = append(c.plain, part)
		return c.readBags(info.Content.Bytes)
	case oidEncryptedData:
		var data encryptedData
		if err := unmarshal(info.Content.Bytes, &data); err != nil {
			return err
		}
		c.encrypted = append(c.encrypted, part)
		return c.countEncryption(data.Content.Algorithm)
	}
	return fmt.Errorf("it has content of the type %v", info.Type)
}

func (c *container) readBags(content []byte) error {
	var octets []byte
	var bags []safeBag
	if err := unmarshal(content, &octets); err != nil {
		return err
	}
	if err := unmarshal(octets, &bags); err != nil {
		return err
	}
	for _, bag := range bags {
		if err := c.readBag(bag); err != nil {
			return err
		}
	}
	return nil
}

func (c *container) readBag(bag safeBag) error {
	kind := bag.Type.String()
	if kind != oidKeyBag && kind != oidShroudedKey {
		return nil
	}
	if len(bag.Value.Bytes) > maxKey {
		return errLongKey
	}
	c.keys++
	if kind == oidKeyBag {
		return nil
	}
	var info encryptedPrivateKeyInfo
	if err := unmarshal(bag.Value.Bytes, &info); err != nil {
		return err
	}
	return c.countEncryption(info.Algorithm)
}

func (c *container) countMAC(mac macData) error {
	if mac.MAC.Algorithm.Algorithm.String() != oidPBMAC1 {
		return c.count(mac.Iterations, 1)
	}
	var parameters pbmac1Parameters
	if err := unmarshal(mac.MAC.Algorithm.Parameters.FullBytes, &parameters); err != nil {
		return err
	}
	return c.countPBKDF2(parameters.KeyDerivation, 0)
}

// legacyBlocks is the number of derivations for the ciphers of PKCS#12: at most two blocks of SHA-1
// for the key and one for the initialisation vector.
const legacyBlocks = 3

func (c *container) countEncryption(algorithm pkix.AlgorithmIdentifier) error {
	if algorithm.Algorithm.String() != oidPBES2 {
		var parameters pbeParameters
		if err := unmarshal(algorithm.Parameters.FullBytes, &parameters); err != nil {
			return err
		}
		return c.count(parameters.Iterations, legacyBlocks)
	}
	var parameters pbes2Parameters
	if err := unmarshal(algorithm.Parameters.FullBytes, &parameters); err != nil {
		return err
	}
	_, keyLength, err := cipherOf(parameters.Encryption.Algorithm)
	if err != nil {
		return err
	}
	return c.countPBKDF2(parameters.KeyDerivation, keyLength)
}

// countPBKDF2 reads the length of the key from the parameters if it is 0.
func (c *container) countPBKDF2(algorithm pkix.AlgorithmIdentifier, keyLength int) error {
	var parameters derivation
	if err := unmarshal(algorithm.Parameters.FullBytes, &parameters); err != nil {
		return err
	}
	newHash, err := hashOf(parameters.PRF.Algorithm)
	if err != nil {
		return err
	}
	if keyLength == 0 {
		keyLength = parameters.KeyLength
	}
	size := newHash().Size()
	return c.count(parameters.Iterations, (min(keyLength, maxIterations)+size-1)/size)
}

// count adds a derivation of so many blocks with so many iterations each.
func (c *container) count(iterations, blocks int) error {
	if iterations < 1 || blocks < 1 {
		return fmt.Errorf("it asks for %d iterations of its key derivation", iterations)
	}
	if iterations > maxIterations {
		return errTooMuchWork
	}
	c.work += iterations * blocks * c.attempts
	if c.work > maxIterations {
		return errTooMuchWork
	}
	return nil
}
