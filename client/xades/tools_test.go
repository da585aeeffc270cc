// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// available reports whether a tool is on PATH. In CI it must be.
func available(t *testing.T, tool string) bool {
	_, err := exec.LookPath(tool)
	if os.Getenv("CI") != "" {
		require.NoError(t, err)
	}
	if err != nil {
		t.Logf("%s is not installed, so it was not asked", tool)
	}
	return err == nil
}

func write(t *testing.T, name string, content []byte) string {
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func run(t *testing.T, tool string, arguments ...string) (string, error) {
	output, err := exec.CommandContext(t.Context(), tool, arguments...).CombinedOutput()
	return string(output), err
}

func TestXMLSec1VerifiesTheSignature(t *testing.T) {
	if !available(t, "xmlsec1") {
		return
	}
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey(t), "P-256": ecKey(t)} {
		t.Run(name, func(t *testing.T) {
			certificate := certify(t, key, sealName())
			signer, err := NewSigner(certificate, key)
			require.NoError(t, err)
			signed, err := signer.Sign(sampleRequest(), time.Now())
			require.NoError(t, err)
			trusted := write(t, "trusted.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
			verify := func(document string) (string, error) {
				return run(t, "xmlsec1", "--verify", "--enabled-key-data", "x509", "--trusted-pem", trusted,
					"--id-attr:Id", xadesNS+":SignedProperties", write(t, "signed.xml", []byte(document)))
			}

			output, err := verify(string(signed))
			require.NoError(t, err, output)
			require.Contains(t, output, "SignedInfo References (ok/all): 2/2")

			for name, changed := range map[string]string{
				"context":      strings.Replace(string(signed), "5265877635</Nip>", "1111111111</Nip>", 1),
				"MIME type":    strings.Replace(string(signed), "text/xml", "text/plain", 1),
				"signing time": strings.Replace(string(signed), "<xades:SigningTime>2", "<xades:SigningTime>3", 1),
			} {
				require.NotEqual(t, string(signed), changed)
				output, err := verify(changed)
				require.Error(t, err, name)
				require.Contains(t, output, "digest do not match", name)
			}
		})
	}
}

func TestDocumentIsValidAgainstTheSchema(t *testing.T) {
	contracts := os.Getenv("KSEF_CONTRACTS")
	if os.Getenv("CI") != "" {
		require.NotEmpty(t, contracts, "KSEF_CONTRACTS names the directory of the schema")
	}
	if !available(t, "xmllint") || contracts == "" {
		return
	}
	schema := write(t, "schema.xsd", compilable(t, filepath.Join(contracts, "schemat_auth_v2-0.xsd")))
	validate := func(document string) (string, error) {
		return run(t, "xmllint", "--noout", "--schema", schema, write(t, "document.xml", []byte(document)))
	}
	for name, change := range map[string]func(*Request){
		"NIP":         func(*Request) {},
		"internal id": func(r *Request) { r.Context = Context{ContextInternalID, "5265877635-12345"} },
		"fingerprint": func(r *Request) { r.SubjectIdentifierType = CertificateFingerprint },
	} {
		t.Run(name, func(t *testing.T) {
			request := sampleRequest()
			change(&request)
			document, err := request.Document()
			require.NoError(t, err)
			output, err := validate(string(document))
			require.NoError(t, err, output)

			output, err = validate(strings.Replace(string(document), "-CR-", "-XX-", 1))
			require.Error(t, err)
			require.Contains(t, output, "Challenge")
		})
	}
}

// compilable returns the schema without the patterns of IP addresses: the request has none, and \b
// in those patterns is no part of XML Schema's expressions.
func compilable(t *testing.T, path string) []byte {
	schema, err := os.ReadFile(path)
	require.NoError(t, err)
	var kept []string
	for _, line := range strings.Split(string(schema), "\n") {
		if !strings.Contains(line, `\b`) {
			kept = append(kept, line)
		}
	}
	return []byte(strings.Join(kept, "\n"))
}
