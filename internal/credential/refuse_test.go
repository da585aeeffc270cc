// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"
)

// requireRefused checks that the error names the field, says what is wrong and what to do, and
// keeps the secrets.
func requireRefused(t *testing.T, source Source, want string) {
	t.Helper()
	_, err := parse(source, noon)
	var refused *client.InputError
	require.ErrorAs(t, err, &refused)
	require.NotEmpty(t, refused.Remedy)
	require.Contains(t, err.Error(), want)
	require.NotContains(t, err.Error(), password)
	require.NotErrorIs(t, err, ErrNotYetValid)
}

func TestBadPEMIsRefused(t *testing.T) {
	key := ecKey(t)
	certificate, privateKey := certificatePEM(certify(t, key)), keyPEM(t, key)
	legacy := string(pem.EncodeToMemory(&pem.Block{
		Type: "EC PRIVATE KEY", Bytes: make([]byte, 32),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00112233445566778899AABBCCDDEEFF"},
	}))
	for name, c := range map[string]struct {
		source Source
		want   string
	}{
		"nothing":                {Source{}, "certificate: is missing; give it together with private_key, or give both as pkcs12"},
		"no key":                 {Source{Certificate: certificate}, "private_key: is missing; "},
		"no certificate":         {Source{PrivateKey: privateKey}, "certificate: is missing; "},
		"password alone":         {Source{PrivateKeyPassword: password}, "certificate: is missing; "},
		"PKCS#12 as well":        {Source{Certificate: certificate, PrivateKey: privateKey, PKCS12: []byte{1}}, "pkcs12: is given together with certificate and private_key; "},
		"certificate not PEM":    {Source{Certificate: "garbage", PrivateKey: privateKey}, "certificate: is not PEM; "},
		"certificate garbage":    {Source{Certificate: encode("CERTIFICATE", []byte("garbage")), PrivateKey: privateKey}, "certificate: cannot be read (x509: "},
		"certificate cut off":    {Source{Certificate: certificate + certificate[:100], PrivateKey: privateKey}, "certificate: has a PEM block that is damaged or cut off; "},
		"certificate is a key":   {Source{Certificate: certificate + privateKey, PrivateKey: privateKey}, "certificate: holds a private key; give the key as private_key"},
		"certificate is request": {Source{Certificate: encode("CERTIFICATE REQUEST", nil), PrivateKey: privateKey}, `certificate: holds a PEM block of type "CERTIFICATE REQUEST"; `},
		"key not PEM":            {Source{Certificate: certificate, PrivateKey: "garbage"}, "private_key: is not PEM; "},
		"key garbage":            {Source{Certificate: certificate, PrivateKey: encode("PRIVATE KEY", []byte("garbage"))}, "private_key: cannot be read ("},
		"key cut off":            {Source{Certificate: certificate, PrivateKey: privateKey[:100]}, "private_key: has a PEM block that is damaged or cut off; "},
		"key is certificate":     {Source{Certificate: certificate, PrivateKey: certificate}, `private_key: holds a PEM block of type "CERTIFICATE"; `},
		"key is parameters":      {Source{Certificate: certificate, PrivateKey: encode("EC PARAMETERS", nil)}, "private_key: holds no private key; "},
		"two keys":               {Source{Certificate: certificate, PrivateKey: privateKey + privateKey}, "private_key: holds more than one private key; "},
		"key of another":         {Source{Certificate: certificate, PrivateKey: keyPEM(t, ecKey(t))}, "private_key: does not belong to the certificate; give the key that the certificate was issued for"},
		"key of old encryption":  {Source{Certificate: certificate, PrivateKey: legacy, PrivateKeyPassword: password}, "private_key: is encrypted in the old format of OpenSSL, which is unsafe; encrypt it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc "},
		"needless password":      {Source{Certificate: certificate, PrivateKey: privateKey, PrivateKeyPassword: password}, "private_key_password: is given, but the private key is not encrypted; "},
	} {
		t.Run(name, func(t *testing.T) { requireRefused(t, c.source, c.want) })
	}
}

func TestBadEncryptionIsRefused(t *testing.T) {
	key := ecKey(t)
	certificate := certificatePEM(certify(t, key))
	good := encryptedDER(t, key, nil)
	scrypt := encryptedDER(t, key, &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 2, BlockSize: 8, ParallelizationParameter: 1},
	})
	iterations := func(n int) []byte {
		return changeEncryption(t, good, func(parameters *pbkdf2Parameters) { parameters.Iterations = n })
	}
	var info encryptedPrivateKeyInfo
	require.NoError(t, unmarshal(good, &info))
	info.Data = info.Data[:len(info.Data)-1]
	odd, err := asn1.Marshal(info)
	require.NoError(t, err)

	for name, c := range map[string]struct {
		der      []byte
		password string
		want     string
	}{
		"no password":     {good, "", "private_key_password: is missing, and the private key is encrypted; "},
		"wrong password":  {good, password + "?", "private_key_password: does not decrypt the private key; "},
		"garbage":         {[]byte("garbage"), password, "private_key: cannot be decrypted (it is not an encrypted PKCS#8 key"},
		"data after it":   {append(bytes.Clone(good), 0), password, "private_key: cannot be decrypted (it is not an encrypted PKCS#8 key"},
		"scrypt":          {scrypt, password, "private_key: cannot be decrypted (its key derivation is not PBKDF2); "},
		"no iterations":   {iterations(0), password, "private_key: cannot be decrypted (it asks for 0 iterations"},
		"much work":       {iterations(1 << 30), password, "private_key: cannot be decrypted (it asks for 1073741824 iterations"},
		"odd length":      {odd, password, "private_key: cannot be decrypted (its length does not fit its cipher); "},
		"unknown cipher":  {bytes.Replace(good, []byte{0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 42}, []byte{0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 46}, 1), password, "private_key: cannot be decrypted (its cipher 2.16.840.1.101.3.4.1.46 is not supported); "},
		"unknown hash":    {bytes.Replace(good, []byte{0x86, 0xf7, 0x0d, 2, 9}, []byte{0x86, 0xf7, 0x0d, 2, 8}, 1), password, "private_key: cannot be decrypted (its pseudo-random function 1.2.840.113549.2.8 is not supported); "},
		"old PKCS#5":      {bytes.Replace(good, []byte{0x86, 0xf7, 0x0d, 1, 5, 13}, []byte{0x86, 0xf7, 0x0d, 1, 5, 3}, 1), password, "private_key: cannot be decrypted ("},
		"not encrypted":   {mustPKCS8(t, key), password, "private_key: cannot be decrypted (it is not an encrypted PKCS#8 key"},
		"key of no curve": {encryptedDER(t, ecKeyOn(t, elliptic.P384()), nil), password, "private_key: does not belong to the certificate; "},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, Source{
				Certificate: certificate, PrivateKey: encode("ENCRYPTED PRIVATE KEY", c.der), PrivateKeyPassword: c.password,
			}, c.want)
		})
	}
}

func mustPKCS8(t *testing.T, key crypto.Signer) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return der
}

func TestBadPKCS12IsRefused(t *testing.T) {
	key := ecKey(t)
	certificate := certify(t, key)
	encoded := func(encoder *pkcs12.Encoder, key any, password string) []byte {
		der, err := encoder.Encode(key, certificate, nil, password)
		require.NoError(t, err)
		return der
	}
	good := encoded(pkcs12.Modern, key, password)
	store, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{certificate}, password)
	require.NoError(t, err)
	// 65537 iterations are made 8323073, which takes as many bytes.
	costly := bytes.ReplaceAll(encoded(pkcs12.Modern.WithIterations(65537), key, password), []byte{2, 3, 1, 0, 1}, []byte{2, 3, 0x7f, 0, 1})

	for name, c := range map[string]struct {
		source Source
		want   string
	}{
		"password alone":    {Source{PKCS12Password: password}, "pkcs12: is missing, and its password is given; "},
		"garbage":           {Source{PKCS12: []byte("garbage")}, "pkcs12: cannot be read ("},
		"cut off":           {Source{PKCS12: good[:len(good)-9], PKCS12Password: password}, "pkcs12: cannot be read ("},
		"no password":       {Source{PKCS12: good}, "pkcs12_password: is missing, and the file is encrypted; "},
		"wrong password":    {Source{PKCS12: good, PKCS12Password: password + "?"}, "pkcs12_password: does not decrypt the file; "},
		"needless password": {Source{PKCS12: encoded(pkcs12.Passwordless, key, ""), PKCS12Password: password}, "pkcs12_password: is given, but the file is not encrypted; "},
		"no key":            {Source{PKCS12: store, PKCS12Password: password}, "pkcs12: cannot be read (it holds no private key, or holds it inside of other encrypted data); "},
		"key of another":    {Source{PKCS12: encoded(pkcs12.Modern, ecKey(t), password), PKCS12Password: password}, "pkcs12: does not belong to the certificate; "},
		"much work":         {Source{PKCS12: costly, PKCS12Password: password}, "pkcs12: cannot be read (it asks for more than 2000000 iterations"},
		"deeply nested":     {Source{PKCS12: nested(t, 40)}, "pkcs12: cannot be read ("},
	} {
		t.Run(name, func(t *testing.T) { requireRefused(t, c.source, c.want) })
	}
}

func nested(t *testing.T, depth int) []byte {
	var der []byte
	for range depth {
		wrapped, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: der})
		require.NoError(t, err)
		der = wrapped
	}
	return der
}

func TestCertificateThatCannotLogInIsRefused(t *testing.T) {
	p256 := ecKey(t)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	usage := func(usage x509.KeyUsage) func(*x509.Certificate) {
		return func(template *x509.Certificate) { template.KeyUsage = usage }
	}
	for name, c := range map[string]struct {
		key    crypto.Signer
		change func(*x509.Certificate)
		want   string
	}{
		"Offline":       {p256, usage(x509.KeyUsageContentCommitment), "has the key usage nonRepudiation alone, as KSeF's certificates of the type Offline have, and cannot log in; use a KSeF certificate of the type Authentication"},
		"for a server":  {p256, usage(x509.KeyUsageKeyEncipherment), "lacks the key usage digitalSignature and cannot log in; "},
		"authority":     {p256, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, "is the certificate of a certification authority; "},
		"RSA too short": {rsaKey(t, 1024), usage(x509.KeyUsageDigitalSignature), "has an RSA key of 1024 bits, which is too short; use a certificate with an RSA key of at least 2048 bits or an ECDSA key on P-256"},
		"P-384":         {ecKeyOn(t, elliptic.P384()), usage(x509.KeyUsageDigitalSignature), "has an ECDSA key on P-384; "},
		"Ed25519":       {edwards, usage(x509.KeyUsageDigitalSignature), "has a key of the kind Ed25519; "},
		"expired":       {p256, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }, "expired at 2026-07-01T11:59:59Z; use a certificate that is valid now"},
	} {
		t.Run(name, func(t *testing.T) {
			certificate := certify(t, c.key, c.change)
			requireRefused(t, Source{Certificate: certificatePEM(certificate), PrivateKey: keyPEM(t, c.key)}, "certificate: "+c.want)

			der, err := pkcs12.Modern.Encode(c.key, certificate, nil, password)
			require.NoError(t, err)
			requireRefused(t, Source{PKCS12: der, PKCS12Password: password}, "pkcs12: "+c.want)
		})
	}
}

func TestKeyThatCannotSignIsRefused(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	requireRefused(t, Source{
		Certificate: certificatePEM(certify(t, ecKey(t))), PrivateKey: encode("PRIVATE KEY", der),
	}, "private_key: holds a private key that cannot sign; ")
}

func TestCertificateWithoutKeyUsageIsAccepted(t *testing.T) {
	key := ecKey(t)
	certificate := certify(t, key, func(template *x509.Certificate) { template.KeyUsage = 0 })
	requireHolds(t, Source{Certificate: certificatePEM(certificate), PrivateKey: keyPEM(t, key)}, certificate, key)
}

func TestCertificateNotYetValidIsDistinct(t *testing.T) {
	key := ecKey(t)
	source := Source{Certificate: certificatePEM(certify(t, key)), PrivateKey: keyPEM(t, key)}
	_, err := parse(source, start.Add(-time.Second))
	require.ErrorIs(t, err, ErrNotYetValid)
	require.EqualError(t, err, "certificate: is not valid before 2026-01-01T00:00:00Z; wait until then, or use a certificate that is valid now")

	credential, err := Read(source)
	require.NoError(t, err)
	require.NoError(t, credential.CheckValidity(start))
	require.NoError(t, credential.CheckValidity(end))
	err = credential.CheckValidity(end.Add(time.Second))
	require.ErrorContains(t, err, "certificate: expired at 2028-01-01T00:00:00Z")
	require.NotErrorIs(t, err, ErrNotYetValid)
	require.NotContains(t, err.Error(), "wait")
}
