// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"software.sslmate.com/src/go-pkcs12"
)

// recipe is how to make a PKCS#12 file: the iterations of each derivation, 0 to leave a part out.
type recipe struct {
	mac, certificate, key, hidden int
	saltTag                       byte
	pbmac1, encryptedFirst        bool
	password                      string
}

// pkcs12Maker makes files that no proper program writes.
type pkcs12Maker struct {
	testing.TB
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newPKCS12Maker(t testing.TB) *pkcs12Maker {
	key := ecKey(t)
	return &pkcs12Maker{t, key, certify(t, key)}
}

func (m *pkcs12Maker) marshal(value any) []byte {
	der, err := asn1.Marshal(value)
	require.NoError(m, err)
	return der
}

func oid(parts ...int) asn1.ObjectIdentifier { return parts }

func pkcs12OID(parts ...int) asn1.ObjectIdentifier {
	return append(oid(1, 2, 840, 113549, 1), parts...)
}

// make skips the work of large iteration counts: nothing behind them can be opened then.
func (m *pkcs12Maker) make(r recipe) []byte {
	certificate := m.marshal(struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}{pkcs12OID(9, 22, 1), m.certificate.Raw})
	inner := []safeBag{m.bag(pkcs12OID(12, 10, 1, 3), certificate)}
	if r.hidden != 0 {
		inner = append(inner, m.shrouded(r, r.hidden))
	}
	algorithm, sealed := m.encrypt(r, r.certificate, m.marshal(inner))
	encrypted := m.content(pkcs12OID(7, 6), m.marshal(encryptedData{Content: encryptedContent{
		Type: pkcs12OID(7, 1), Algorithm: algorithm, Data: sealed,
	}}))
	parts := []asn1.RawValue{encrypted}
	if r.key != 0 {
		plain := m.content(pkcs12OID(7, 1), m.marshal(m.marshal([]safeBag{m.shrouded(r, r.key)})))
		parts = append(parts, plain)
	}
	if !r.encryptedFirst {
		slices.Reverse(parts)
	}
	content := m.marshal(parts)
	return m.marshal(pfx{Version: 3, MAC: m.mac(r, content), AuthSafe: contentInfo{
		Type: pkcs12OID(7, 1), Content: explicit(m.marshal(content)),
	}})
}

func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der}
}

func (m *pkcs12Maker) content(kind asn1.ObjectIdentifier, der []byte) asn1.RawValue {
	return asn1.RawValue{FullBytes: m.marshal(contentInfo{Type: kind, Content: explicit(der)})}
}

func (m *pkcs12Maker) bag(kind asn1.ObjectIdentifier, der []byte) safeBag {
	return safeBag{Type: kind, Value: explicit(der)}
}

func (m *pkcs12Maker) shrouded(r recipe, iterations int) safeBag {
	der, err := x509.MarshalPKCS8PrivateKey(m.key)
	require.NoError(m, err)
	algorithm, sealed := m.encrypt(r, iterations, der)
	return m.bag(pkcs12OID(12, 10, 1, 2), m.marshal(encryptedPrivateKeyInfo{Algorithm: algorithm, Data: sealed}))
}

// pbkdf2 returns the parameters of a derivation, with the recipe's tag for the salt.
func (m *pkcs12Maker) pbkdf2(r recipe, iterations, keyLength int) pkix.AlgorithmIdentifier {
	parameters := derivation{
		Salt: asn1.RawValue{FullBytes: []byte{r.saltTag, 4, 's', 'a', 'l', 't'}}, Iterations: iterations, KeyLength: keyLength,
		PRF: pkix.AlgorithmIdentifier{Algorithm: oid(1, 2, 840, 113549, 2, 9)},
	}
	return pkix.AlgorithmIdentifier{Algorithm: pkcs12OID(5, 12), Parameters: asn1.RawValue{FullBytes: m.marshal(parameters)}}
}

func (m *pkcs12Maker) derive(r recipe, iterations int) []byte {
	if iterations > 1<<17 {
		iterations = 1
	}
	key, err := pbkdf2.Key(sha256.New, r.password, []byte("salt"), max(1, iterations), 32)
	require.NoError(m, err)
	return key
}

func (m *pkcs12Maker) encrypt(r recipe, iterations int, plain []byte) (pkix.AlgorithmIdentifier, []byte) {
	iv := make([]byte, aes.BlockSize)
	parameters := m.marshal(pbes2Parameters{
		KeyDerivation: m.pbkdf2(r, iterations, 0),
		Encryption:    pkix.AlgorithmIdentifier{Algorithm: oid(2, 16, 840, 1, 101, 3, 4, 1, 42), Parameters: asn1.RawValue{FullBytes: m.marshal(iv)}},
	})
	block, err := aes.NewCipher(m.derive(r, iterations))
	require.NoError(m, err)
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	sealed := append(slices.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)
	return pkix.AlgorithmIdentifier{Algorithm: pkcs12OID(5, 13), Parameters: asn1.RawValue{FullBytes: parameters}}, sealed
}

func (m *pkcs12Maker) mac(r recipe, content []byte) macData {
	if !r.pbmac1 {
		made := macOf(content, encodings(r.password)[0])
		made.Iterations = r.mac
		return made
	}
	parameters := m.marshal(pbmac1Parameters{
		KeyDerivation: m.pbkdf2(r, r.mac, 32), MAC: pkix.AlgorithmIdentifier{Algorithm: oid(1, 2, 840, 113549, 2, 9)},
	})
	mac := hmac.New(sha256.New, m.derive(r, r.mac))
	mac.Write(content)
	return macData{Iterations: 1, MAC: digestInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: pkcs12OID(5, 14), Parameters: asn1.RawValue{FullBytes: parameters}},
		Digest:    mac.Sum(nil),
	}}
}

const (
	octetString = 0x04
	// otherClass is a tag that the decoder accepts as an OCTET STRING.
	otherClass = 0x84
	// endless iterations would take days.
	endless = 1 << 40
)

// No case ends in time if a derivation with endless iterations begins.
func TestPKCS12Work(t *testing.T) {
	maker := newPKCS12Maker(t)
	const tooMuch, hidden = "asks for more than 2000000 iterations", "exactly one key bag"
	for name, c := range map[string]struct {
		recipe recipe
		want   string
	}{
		"in the MAC":                  {recipe{mac: endless, certificate: 1, key: 1, saltTag: octetString}, tooMuch},
		"in the MAC, PBMAC1":          {recipe{mac: endless, certificate: 1, key: 1, saltTag: otherClass, pbmac1: true}, tooMuch},
		"in the certificates":         {recipe{mac: 1, certificate: endless, key: 1, saltTag: otherClass, pbmac1: true}, tooMuch},
		"in the key":                  {recipe{mac: 1, certificate: 1, key: endless, saltTag: otherClass, pbmac1: true}, tooMuch},
		"all together":                {recipe{mac: 700_000, certificate: 700_000, key: 700_000, saltTag: octetString, pbmac1: true}, tooMuch},
		"hidden beside the key":       {recipe{mac: 1, certificate: 1, key: 1, hidden: endless, saltTag: octetString, pbmac1: true}, hidden},
		"hidden before the key":       {recipe{mac: 1, certificate: 1, key: 1, hidden: endless, saltTag: octetString, pbmac1: true, encryptedFirst: true}, hidden},
		"hidden without another key":  {recipe{mac: 1, certificate: 1, hidden: endless, saltTag: octetString, pbmac1: true}, "inside of other encrypted data"},
		"no iterations":               {recipe{mac: 1, certificate: -1, key: 1, saltTag: octetString, pbmac1: true}, "asks for -1 iterations"},
		"MAC that does not fit":       {recipe{mac: 2, certificate: 1, key: 1, saltTag: octetString, encryptedFirst: true}, "does not decrypt the file"},
		"twice for an empty password": {recipe{mac: 1, certificate: 600_000, key: 500_000, saltTag: octetString, password: "-"}, tooMuch},
	} {
		t.Run(name, func(t *testing.T) {
			switch c.recipe.password {
			case "":
				c.recipe.password = password
			case "-":
				c.recipe.password = ""
			}
			requireRefused(t, Source{PKCS12: maker.make(c.recipe), PKCS12Password: c.recipe.password}, "pkcs12")
			_, err := parse(Source{PKCS12: maker.make(c.recipe), PKCS12Password: c.recipe.password}, noon)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Checking a key of a million bits would take hours.
func TestLongKey(t *testing.T) {
	maker := newPKCS12Maker(t)
	long := make([]byte, maxKey+1)
	for _, block := range []string{"RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"} {
		requireRefused(t, Source{Certificate: certificatePEM(maker.certificate), PrivateKey: encode(block, long)}, "private_key: is longer than 16384 bytes; ")
	}
	for _, kind := range []int{1, 2} {
		key := maker.content(pkcs12OID(7, 1), maker.marshal(maker.marshal([]safeBag{maker.bag(pkcs12OID(12, 10, 1, kind), long)})))
		file := maker.marshal(pfx{Version: 3, AuthSafe: contentInfo{
			Type: pkcs12OID(7, 1), Content: explicit(maker.marshal(maker.marshal([]asn1.RawValue{key}))),
		}})
		requireRefused(t, Source{PKCS12: file}, "pkcs12: cannot be read (its private key is longer than 16384 bytes); ")
	}
}

// FuzzPKCS12Work checks that what the decoder opens has been counted, or is refused.
func FuzzPKCS12Work(f *testing.F) {
	f.Add(uint16(1), uint16(2), uint16(3), uint16(0), byte(octetString), byte(0))
	f.Add(uint16(1), uint16(900), uint16(70), uint16(0), byte(octetString), byte(3))
	f.Add(uint16(1), uint16(9), uint16(0), uint16(60), byte(octetString), byte(1))
	f.Add(uint16(5), uint16(6), uint16(7), uint16(0), byte(otherClass), byte(1))
	f.Add(uint16(5), uint16(6), uint16(7), uint16(0), byte(otherClass), byte(3))
	f.Add(uint16(5), uint16(6), uint16(7), uint16(8), byte(octetString), byte(7))
	maker := newPKCS12Maker(f)
	f.Fuzz(func(t *testing.T, mac, certificate, key, hidden uint16, saltTag, layout byte) {
		m := &pkcs12Maker{t, maker.key, maker.certificate}
		r := recipe{
			mac: int(mac), certificate: int(certificate), key: int(key), hidden: int(hidden), saltTag: saltTag,
			pbmac1: layout&1 != 0, encryptedFirst: layout&2 != 0, password: password,
		}
		if layout&4 != 0 {
			r.password = ""
		}
		file := m.make(r)
		_, _, _, err := pkcs12.DecodeChain(file, r.password)
		got, refused := parse(Source{PKCS12: file, PKCS12Password: r.password}, noon)
		if err != nil {
			require.Error(t, refused)
			return
		}
		if hidden != 0 || slices.Contains([]uint16{mac, certificate, key}, 0) {
			require.Error(t, refused, "what cannot be counted is not opened")
			return
		}
		require.NoError(t, refused)
		require.True(t, got.Certificate.Equal(m.certificate))
		counted, err := readContainer(file, r.password)
		require.NoError(t, err)
		require.GreaterOrEqual(t, counted.work, r.mac+r.certificate+r.key)
	})
}
