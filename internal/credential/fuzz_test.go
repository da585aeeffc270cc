// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto"
	"crypto/x509"
	"testing"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"
)

// FuzzParse gives arbitrary sources. An accepted one must survive storage, and any other must be
// refused with a complete InputError.
func FuzzParse(f *testing.F) {
	key := ecKey(f)
	certificate := certify(f, key)
	text := certificatePEM(certificate, certify(f, ecKey(f)))
	sec1, err := x509.MarshalECPrivateKey(key)
	require.NoError(f, err)
	f.Add(text, keyPEM(f, key), "", []byte(nil), "")
	f.Add(text, encode("EC PRIVATE KEY", sec1), "", []byte(nil), "")
	quick := &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 1, HMACHash: crypto.SHA256}}
	f.Add(text, encode("ENCRYPTED PRIVATE KEY", encryptedDER(f, key, quick)), password, []byte(nil), "")
	for _, encoder := range []*pkcs12.Encoder{pkcs12.LegacyRC2, pkcs12.LegacyDES, pkcs12.Modern2023, pkcs12.Modern2026} {
		der, err := encoder.WithIterations(1).Encode(key, certificate, nil, password)
		require.NoError(f, err)
		f.Add("", "", "", der, password)
	}
	der, err := pkcs12.Passwordless.Encode(key, certificate, nil, "")
	require.NoError(f, err)
	f.Add("", "", "", der, "")

	f.Fuzz(func(t *testing.T, certificate, privateKey, keyPassword string, file []byte, filePassword string) {
		got, err := parse(Source{certificate, privateKey, keyPassword, file, filePassword}, noon)
		if err != nil {
			var refused *client.InputError
			require.ErrorAs(t, err, &refused)
			require.NotEmpty(t, refused.Field)
			require.NotEmpty(t, refused.Fault)
			require.NotEmpty(t, refused.Remedy)
			return
		}
		storedCertificate, storedKey, err := got.PEM()
		require.NoError(t, err)
		again, err := parse(Source{Certificate: storedCertificate, PrivateKey: storedKey}, noon)
		require.NoError(t, err)
		require.Equal(t, got.Identity, again.Identity)
		require.True(t, got.Certificate.Equal(again.Certificate))
	})
}
