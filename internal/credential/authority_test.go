// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"
)

// KSeF's authority names ecdsa-with-SHA256 with NULL as parameters, which RFC 5758 section 3.2
// forbids (KSeF issue 160).
func TestCertificateOfKSeFsAuthorityIsRead(t *testing.T) {
	key, authority := ecKey(t), ecKey(t)
	der := withNullParameters(t, certify(t, key).Raw, authority)
	require.Equal(t, 2, bytes.Count(der, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 5, 0}))

	credential, err := parse(Source{Certificate: encode("CERTIFICATE", der), PrivateKey: keyPEM(t, key)}, noon)
	require.NoError(t, err)
	require.Equal(t, der, credential.Certificate.Raw)
	require.Equal(t, "5265877635", credential.Identity.Identifier)
	issuer := certify(t, authority)
	require.NoError(t, issuer.CheckSignature(x509.ECDSAWithSHA256, credential.Certificate.RawTBSCertificate, credential.Certificate.Signature))
}

// withNullParameters reissues a certificate with both of its algorithm identifiers in the form of
// KSeF's authority.
func withNullParameters(t *testing.T, certificate []byte, authority *ecdsa.PrivateKey) []byte {
	const algorithmIndex = 2
	algorithm := []byte{0x30, 12, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 5, 0}
	var outer, body []asn1.RawValue
	require.NoError(t, unmarshal(certificate, &outer))
	require.NoError(t, unmarshal(outer[0].FullBytes, &body))
	body[algorithmIndex] = asn1.RawValue{FullBytes: algorithm}
	signed, err := asn1.Marshal(body)
	require.NoError(t, err)
	hash := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, authority, hash[:])
	require.NoError(t, err)
	der, err := asn1.Marshal([]any{
		asn1.RawValue{FullBytes: signed}, asn1.RawValue{FullBytes: algorithm},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	require.NoError(t, err)
	return der
}
