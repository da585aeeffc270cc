// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"vault-plugin-secrets-ksef/client"

	"software.sslmate.com/src/go-pkcs12"
)

const (
	remedyPKCS12         = "give a file, in base64, as made by: openssl pkcs12 -export -in certificate.pem -inkey private.key"
	remedyPKCS12Password = "give the password that was set when the file was made"
)

func (s Source) readPKCS12() (*material, error) {
	if len(s.PKCS12) == 0 {
		return nil, &client.InputError{Field: FieldPKCS12, Fault: "is missing, and its password is given", Remedy: remedyPKCS12}
	}
	file, err := readContainer(s.PKCS12, s.PKCS12Password)
	if err != nil {
		return nil, s.explainPKCS12(err)
	}
	if s.PKCS12Password != "" && !file.hasMAC {
		return nil, &client.InputError{Field: FieldPKCS12Password, Fault: "is given, but the file is not encrypted", Remedy: "leave it out, or give the encrypted file"}
	}
	found, err := file.open(s.PKCS12, s.PKCS12Password)
	if err != nil {
		return nil, s.explainPKCS12(err)
	}
	return found, nil
}

func (s Source) explainPKCS12(err error) error {
	wrongPassword := errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption)
	switch {
	case wrongPassword && s.PKCS12Password == "":
		return &client.InputError{Field: FieldPKCS12Password, Fault: "is missing, and the file is encrypted", Remedy: remedyPKCS12Password}
	case wrongPassword:
		return &client.InputError{Field: FieldPKCS12Password, Fault: "does not decrypt the file", Remedy: remedyPKCS12Password}
	default:
		return &client.InputError{Field: FieldPKCS12, Fault: fmt.Sprintf("cannot be read (%v)", err), Remedy: remedyPKCS12}
	}
}

// errHiddenKey refuses a file whose only key cannot be counted before its parts are decrypted. No
// known program writes such files: a key is encrypted separately.
var errHiddenKey = errors.New("it holds no private key, or holds it inside of other encrypted data")

// errTwoParts is the decoder's error for a file with a valid MAC that is no trust store.
const errTwoParts = pkcs12.NotImplementedError("expected exactly 1 items in the authenticated safe, but this file has 2")

// open decrypts the file, and derives nothing that was not counted. A key inside of encrypted parts
// could have iterations of its own, so the counted keys come first: the decoder accepts one key,
// and fails at another before it derives anything for that.
func (c *container) open(der []byte, password string) (*material, error) {
	switch {
	case c.keys == 0:
		return nil, errHiddenKey
	case !c.encryptedFirst:
		return decode(der, password)
	}
	// This checks the password and stops at the second part.
	_, err := pkcs12.DecodeTrustStore(der, password)
	if !errors.Is(err, errTwoParts) {
		return nil, err
	}
	var found *material
	for _, encoded := range encodings(password) {
		ordered, failed := c.keysFirst(encoded)
		if failed != nil {
			return nil, failed
		}
		if found, err = decode(ordered, password); err == nil {
			return found, nil
		}
	}
	return nil, err
}

func decode(der []byte, password string) (*material, error) {
	key, certificate, others, err := pkcs12.DecodeChain(der, password)
	if err != nil {
		return nil, err
	}
	return &material{append([]*x509.Certificate{certificate}, others...), key, FieldPKCS12, FieldPKCS12}, nil
}

// encodings are the forms of a password in PKCS#12; the empty one has two.
func encodings(password string) [][]byte {
	units := append(utf16.Encode([]rune(password)), 0)
	encoded := make([]byte, 0, 2*len(units))
	for _, unit := range units {
		encoded = binary.BigEndian.AppendUint16(encoded, unit)
	}
	if password == "" {
		return [][]byte{encoded, nil}
	}
	return [][]byte{encoded}
}

// keysFirst rewrites the file with its plain parts before its encrypted ones.
func (c *container) keysFirst(password []byte) ([]byte, error) {
	parts, err := asn1.Marshal(append(append([]asn1.RawValue{}, c.plain...), c.encrypted...))
	if err != nil {
		return nil, err
	}
	octets, err := asn1.Marshal(parts)
	if err != nil {
		return nil, err
	}
	file := pfx{Version: 3, AuthSafe: contentInfo{
		Type:    asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1},
		Content: asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: octets},
	}}
	if c.hasMAC {
		file.MAC = macOf(parts, password)
	}
	return asn1.Marshal(file)
}

// macOf is the MAC of RFC 7292 appendix B with SHA-256, one iteration and no salt.
func macOf(content, password []byte) macData {
	const block, macKey = 64, 3
	derived := sha256.New()
	derived.Write(bytes.Repeat([]byte{macKey}, block))
	if size := len(password); size > 0 {
		length := (size + block - 1) / block * block
		derived.Write(bytes.Repeat(password, length/size+1)[:length])
	}
	mac := hmac.New(sha256.New, derived.Sum(nil))
	mac.Write(content)
	return macData{Iterations: 1, MAC: digestInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue},
		Digest:    mac.Sum(nil),
	}}
}
