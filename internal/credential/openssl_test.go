// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package credential

import (
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// available reports whether openssl is on PATH. In CI it must be.
func available(t *testing.T) bool {
	_, err := exec.LookPath("openssl")
	if os.Getenv("CI") != "" {
		require.NoError(t, err)
	}
	if err != nil {
		t.Log("openssl is not installed, so it was not asked")
	}
	return err == nil
}

func TestFilesMadeByOpenSSLAreRead(t *testing.T) {
	if !available(t) {
		return
	}
	for kind, key := range map[string]crypto.Signer{"RSA": rsaKey(t, 2048), "EC": ecKey(t)} {
		certificate := certify(t, key)
		directory := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(directory, "key.pem"), []byte(keyPEM(t, key)), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(directory, "certificate.pem"), []byte(certificatePEM(certificate)), 0o600))
		openssl := func(t *testing.T, arguments string) []byte {
			command := exec.CommandContext(t.Context(), "openssl", append(strings.Fields(arguments), "-passout", "pass:"+password, "-out", "made")...)
			command.Dir = directory
			output, err := command.CombinedOutput()
			require.NoError(t, err, string(output))
			made, err := os.ReadFile(filepath.Join(directory, "made"))
			require.NoError(t, err)
			return made
		}

		for _, arguments := range []string{
			"pkcs8 -topk8 -in key.pem",
			"pkcs8 -topk8 -in key.pem -v2 aes-256-cbc",
			"pkcs8 -topk8 -in key.pem -v2 aes-128-cbc -v2prf hmacWithSHA384",
			"pkcs8 -topk8 -in key.pem -v2 aes-256-cbc -v2prf hmacWithSHA512 -iter 100000",
			"pkcs8 -topk8 -in key.pem -v2 des3 -v2prf hmacWithSHA1",
			"pkey -in key.pem -aes256",
		} {
			t.Run(kind+" "+arguments, func(t *testing.T) {
				requireHolds(t, Source{
					Certificate: certificatePEM(certificate), PrivateKey: string(openssl(t, arguments)), PrivateKeyPassword: password,
				}, certificate, key)
			})
		}
		for _, arguments := range []string{
			"pkcs12 -export -in certificate.pem -inkey key.pem",
			"pkcs12 -export -in certificate.pem -inkey key.pem -certpbe NONE",
			"pkcs12 -export -in certificate.pem -inkey key.pem -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1",
		} {
			t.Run(kind+" "+arguments, func(t *testing.T) {
				requireHolds(t, Source{PKCS12: openssl(t, arguments), PKCS12Password: password}, certificate, key)
			})
		}
		t.Run(kind+" old formats", func(t *testing.T) {
			for arguments, want := range map[string]string{
				"pkcs8 -topk8 -in key.pem -v1 PBE-SHA1-3DES": "private_key: cannot be decrypted (its encryption is not PBES2); ",
				"pkey -in key.pem -traditional -aes256":      "private_key: is encrypted in the old format of OpenSSL, which is unsafe; ",
			} {
				requireRefused(t, Source{
					Certificate: certificatePEM(certificate), PrivateKey: string(openssl(t, arguments)), PrivateKeyPassword: password,
				}, want)
			}
		})
	}
}
