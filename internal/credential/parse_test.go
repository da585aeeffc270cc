// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"
)

func requireHolds(t *testing.T, source Source, certificate *x509.Certificate, key crypto.Signer) {
	t.Helper()
	got, err := parse(source, noon)
	require.NoError(t, err)
	require.True(t, certificate.Equal(got.Certificate))
	// Not by their fields: what is computed from a key may have leading zeros or not.
	require.True(t, key.(interface{ Equal(crypto.PrivateKey) bool }).Equal(got.Key))
	require.Equal(t, "5265877635", got.Identity.Identifier)
}

func TestKeyIsReadInEveryForm(t *testing.T) {
	rsaKey, ecKey := rsaKey(t, 2048), ecKey(t)
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	require.NoError(t, err)
	parameters, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	require.NoError(t, err)

	for name, c := range map[string]struct {
		key            crypto.Signer
		text, password string
	}{
		"PKCS#8 RSA":            {rsaKey, keyPEM(t, rsaKey), ""},
		"PKCS#8 EC":             {ecKey, keyPEM(t, ecKey), ""},
		"PKCS#1":                {rsaKey, encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		"SEC 1":                 {ecKey, encode("EC PRIVATE KEY", sec1), ""},
		"SEC 1 with parameters": {ecKey, encode("EC PARAMETERS", parameters) + encode("EC PRIVATE KEY", sec1), ""},
		"encrypted RSA":         {rsaKey, encryptedPEM(t, rsaKey), password},
		"encrypted EC":          {ecKey, encryptedPEM(t, ecKey), password},
		"lines end in CRLF":     {ecKey, strings.ReplaceAll(keyPEM(t, ecKey), "\n", "\r\n"), ""},
		"text around it":        {ecKey, "Bag Attributes\n" + keyPEM(t, ecKey) + "\nend\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			certificate := certify(t, c.key)
			requireHolds(t, Source{
				Certificate: certificatePEM(certificate), PrivateKey: c.text, PrivateKeyPassword: c.password,
			}, certificate, c.key)
		})
	}
}

func TestEncryptedKeyIsReadWithEveryCipher(t *testing.T) {
	key := ecKey(t)
	certificate := certify(t, key)
	pbkdf2 := func(hash crypto.Hash) pkcs8.KDFOpts {
		return pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 1000, HMACHash: hash}
	}
	for name, options := range map[string]*pkcs8.Opts{
		"AES-128 SHA-256": {Cipher: pkcs8.AES128CBC, KDFOpts: pbkdf2(crypto.SHA256)},
		"AES-192 SHA-256": {Cipher: pkcs8.AES192CBC, KDFOpts: pbkdf2(crypto.SHA256)},
		"AES-256 SHA-1":   {Cipher: pkcs8.AES256CBC, KDFOpts: pbkdf2(crypto.SHA1)},
		"3DES SHA-1":      {Cipher: pkcs8.TripleDESCBC, KDFOpts: pbkdf2(crypto.SHA1)},
	} {
		t.Run(name, func(t *testing.T) {
			requireHolds(t, Source{
				Certificate:        certificatePEM(certificate),
				PrivateKey:         encode("ENCRYPTED PRIVATE KEY", encryptedDER(t, key, options)),
				PrivateKeyPassword: password,
			}, certificate, key)
		})
	}
}

// Some programs state the length of the derived key, which is optional.
func TestEncryptedKeyMayStateTheLengthOfItsKey(t *testing.T) {
	key := ecKey(t)
	certificate := certify(t, key)
	der := changeEncryption(t, encryptedDER(t, key, nil), func(parameters *pbkdf2Parameters) { parameters.KeyLength = 32 })
	requireHolds(t, Source{
		Certificate: certificatePEM(certificate), PrivateKey: encode("ENCRYPTED PRIVATE KEY", der), PrivateKeyPassword: password,
	}, certificate, key)
}

func TestPKCS12IsReadWithEveryCipher(t *testing.T) {
	key, issuer := rsaKey(t, 2048), certify(t, ecKey(t))
	certificate := certify(t, key)
	for name, c := range map[string]struct {
		encoder  *pkcs12.Encoder
		password string
	}{
		"legacy RC2":    {pkcs12.LegacyRC2, password},
		"legacy 3DES":   {pkcs12.LegacyDES, password},
		"modern 2023":   {pkcs12.Modern2023, password},
		"modern 2026":   {pkcs12.Modern2026, password},
		"no password":   {pkcs12.Modern2023, ""},
		"no encryption": {pkcs12.Passwordless, ""},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := c.encoder.Encode(key, certificate, []*x509.Certificate{issuer}, c.password)
			require.NoError(t, err)
			requireHolds(t, Source{PKCS12: der, PKCS12Password: c.password}, certificate, key)
		})
	}
}

func TestCertificateIsFoundWhereverItStands(t *testing.T) {
	key := ecKey(t)
	leaf, intermediate, root := certify(t, key), certify(t, ecKey(t)), certify(t, ecKey(t))
	for name, order := range map[string][]*x509.Certificate{
		"first":  {leaf, intermediate, root},
		"middle": {intermediate, leaf, root},
		"last":   {intermediate, root, leaf},
	} {
		t.Run("PEM "+name, func(t *testing.T) {
			got, err := parse(Source{Certificate: certificatePEM(order...), PrivateKey: keyPEM(t, key)}, noon)
			require.NoError(t, err)
			require.True(t, leaf.Equal(got.Certificate))
			require.Equal(t, []*x509.Certificate{intermediate, root}, got.Chain)
		})
		t.Run("PKCS#12 "+name, func(t *testing.T) {
			der, err := pkcs12.Modern.Encode(key, order[0], order[1:], password)
			require.NoError(t, err)
			got, err := parse(Source{PKCS12: der, PKCS12Password: password}, noon)
			require.NoError(t, err)
			require.True(t, leaf.Equal(got.Certificate))
			require.Equal(t, []*x509.Certificate{intermediate, root}, got.Chain)
		})
	}
}

func TestStoredFormIsReadBack(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey(t, 2048), "EC": ecKey(t)} {
		t.Run(name, func(t *testing.T) {
			der, err := pkcs12.Modern.Encode(key, certify(t, key), []*x509.Certificate{certify(t, ecKey(t))}, password)
			require.NoError(t, err)
			first, err := parse(Source{PKCS12: der, PKCS12Password: password}, noon)
			require.NoError(t, err)
			certificate, privateKey, err := first.PEM()
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(privateKey, "-----BEGIN PRIVATE KEY-----\n"))

			second, err := parse(Source{Certificate: certificate, PrivateKey: privateKey}, noon)
			require.NoError(t, err)
			require.True(t, first.Certificate.Equal(second.Certificate))
			require.Len(t, second.Chain, 1)
			require.True(t, first.Chain[0].Equal(second.Chain[0]))
			require.Equal(t, first.Key, second.Key)
			require.Equal(t, first.Identity, second.Identity)
		})
	}
}

// changeEncryption changes the key derivation of an encrypted PKCS#8 key.
func changeEncryption(t *testing.T, der []byte, change func(*pbkdf2Parameters)) []byte {
	var (
		info       encryptedPrivateKeyInfo
		scheme     pbes2Parameters
		parameters pbkdf2Parameters
	)
	require.NoError(t, unmarshal(der, &info))
	require.NoError(t, unmarshal(info.Algorithm.Parameters.FullBytes, &scheme))
	require.NoError(t, unmarshal(scheme.KeyDerivation.Parameters.FullBytes, &parameters))
	change(&parameters)
	marshal := func(value any) []byte {
		der, err := asn1.Marshal(value)
		require.NoError(t, err)
		return der
	}
	scheme.KeyDerivation.Parameters = asn1.RawValue{FullBytes: marshal(parameters)}
	info.Algorithm.Parameters = asn1.RawValue{FullBytes: marshal(scheme)}
	return marshal(info)
}
