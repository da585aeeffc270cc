// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/youmark/pkcs8"
)

const password = "Tajne-hasło-1"

// start and end are the validity of the tests' certificates, noon is in between.
var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	noon  = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	end   = time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
)

func ecKey(t testing.TB) *ecdsa.PrivateKey { return ecKeyOn(t, elliptic.P256()) }

func ecKeyOn(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}

// subject makes a name of pairs of object identifier and value.
func subject(pairs ...string) pkix.Name {
	var name pkix.Name
	for i := 0; i < len(pairs); i += 2 {
		var oid asn1.ObjectIdentifier
		switch pairs[i] {
		case "CN":
			oid = asn1.ObjectIdentifier{2, 5, 4, 3}
		case "SN":
			oid = asn1.ObjectIdentifier{2, 5, 4, 4}
		case "serialNumber":
			oid = asn1.ObjectIdentifier{2, 5, 4, 5}
		case "C":
			oid = asn1.ObjectIdentifier{2, 5, 4, 6}
		case "O":
			oid = asn1.ObjectIdentifier{2, 5, 4, 10}
		case "GN":
			oid = asn1.ObjectIdentifier{2, 5, 4, 42}
		case "organizationIdentifier":
			oid = asn1.ObjectIdentifier{2, 5, 4, 97}
		}
		name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: pairs[i+1]})
	}
	return name
}

func seal() pkix.Name {
	return subject("C", "PL", "organizationIdentifier", "VATPL-5265877635", "O", "Testowa Sp. z o.o.", "CN", "Testowa Sp. z o.o.")
}

// certify makes a self-signed certificate for logging in, after changes.
func certify(t testing.TB, key crypto.Signer, changes ...func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x0123456789abcdef),
		Subject:      seal(),
		NotBefore:    start,
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func encode(blockType string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}))
}

func certificatePEM(certificates ...*x509.Certificate) string {
	var text string
	for _, certificate := range certificates {
		text += encode("CERTIFICATE", certificate.Raw)
	}
	return text
}

func keyPEM(t testing.TB, key crypto.Signer) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return encode("PRIVATE KEY", der)
}

func encryptedDER(t testing.TB, key crypto.Signer, options *pkcs8.Opts) []byte {
	der, err := pkcs8.MarshalPrivateKey(key, []byte(password), options)
	require.NoError(t, err)
	return der
}

func encryptedPEM(t testing.TB, key crypto.Signer) string {
	return encode("ENCRYPTED PRIVATE KEY", encryptedDER(t, key, nil))
}

// parse reads a credential for use at the time now.
func parse(source Source, now time.Time) (*Credential, error) {
	credential, err := Read(source)
	if err != nil {
		return nil, err
	}
	if err := credential.CheckValidity(now); err != nil {
		return nil, err
	}
	return credential, nil
}
