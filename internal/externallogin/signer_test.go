// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// certificateOf makes a certificate for a NIP, in DER.
func certificateOf(t testing.TB, nip string) []byte {
	t.Helper()
	certificate, _, err := simulator.NewCertificate(simulator.CertificateOptions{NIP: nip})
	require.NoError(t, err)
	block, _ := pem.Decode(certificate)
	return block.Bytes
}

func encoded(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func carrying(certificates ...[]byte) string {
	var data string
	for _, der := range certificates {
		data += `<X509Data><X509Certificate>` + encoded(der) + `</X509Certificate></X509Data>`
	}
	return `<KeyInfo>` + data + `</KeyInfo>`
}

// reference is a Cert element with this digest.
func reference(algorithm string, value []byte) string {
	return `<x:Cert><x:CertDigest><DigestMethod Algorithm="` + algorithm + `"/><DigestValue>` + encoded(value) + `</DigestValue></x:CertDigest></x:Cert>`
}

func properties(kind, references string) string {
	return `<Object><x:QualifyingProperties xmlns:x="` + xadesNS + `"><x:SignedProperties><x:SignedSignatureProperties><x:` + kind + `>` +
		references + `</x:` + kind + `></x:SignedSignatureProperties></x:SignedProperties></x:QualifyingProperties></Object>`
}

func signedBy(inner string) string {
	return request + `<Signature xmlns="` + dsigNS + `">` + inner + `</Signature>` + requestEnd
}

func TestSigner(t *testing.T) {
	const v1, v2 = "SigningCertificate", "SigningCertificateV2"
	const algorithm = "http://www.w3.org/2001/04/xmlenc#sha256"
	leaf, other := certificateOf(t, "5265877635"), certificateOf(t, "1111111111")
	name := func(der []byte) string { return reference(algorithm, digest(hashes[algorithm], der)) }
	for name, test := range map[string]struct {
		signature string
		signer    []byte
	}{
		"named":                       {carrying(leaf) + properties(v1, name(leaf)), leaf},
		"named in V2":                 {carrying(leaf) + properties(v2, name(leaf)), leaf},
		"named among several":         {carrying(other, leaf) + properties(v1, name(leaf)), leaf},
		"named among several, first":  {carrying(leaf, other) + properties(v1, name(leaf)), leaf},
		"carried twice":               {carrying(leaf, leaf) + properties(v1, name(leaf)), leaf},
		"its issuer named, not there": {carrying(leaf) + properties(v1, name(leaf)+name(other)), leaf},
		"not named":                   {carrying(leaf), nil},
		"another named":               {carrying(leaf) + properties(v1, name(other)), nil},
		"both named":                  {carrying(leaf, other) + properties(v1, name(leaf)+name(other)), nil},
		"named second, first absent":  {carrying(leaf) + properties(v1, name(other)+name(leaf)), nil},
		"both named, V2 and before":   {carrying(leaf, other) + properties(v1, name(leaf)) + properties(v2, name(other)), nil},
		"not carried":                 {properties(v1, name(leaf)), nil},
		"two sets of properties":      {carrying(leaf) + properties(v1, name(leaf)) + properties(v1, name(leaf)), nil},
		"outside of properties":       {carrying(leaf) + `<Object xmlns:x="` + xadesNS + `"><x:SigningCertificate>` + name(leaf) + `</x:SigningCertificate></Object>`, nil},
		"unknown algorithm":           {carrying(leaf) + properties(v1, reference("http://example.com/none", nil)), nil},
		"carried as no certificate":   {carrying([]byte("none")) + properties(v1, name([]byte("none"))), nil},
		"carried as no base64":        {`<KeyInfo><X509Certificate>%</X509Certificate></KeyInfo>` + properties(v1, name(leaf)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := read([]byte(signedBy(test.signature)))
			require.NoError(t, err)
			if test.signer == nil {
				require.Nil(t, found.signer)
				return
			}
			require.NotNil(t, found.signer)
			require.Equal(t, test.signer, found.signer.Raw)
		})
	}
	for algorithm, length := range map[string]int{
		"http://www.w3.org/2000/09/xmldsig#sha1": 20, "http://www.w3.org/2001/04/xmldsig-more#sha224": 28,
		"http://www.w3.org/2001/04/xmlenc#sha256": 32, "http://www.w3.org/2001/04/xmldsig-more#sha384": 48,
		"http://www.w3.org/2001/04/xmlenc#sha512":         64,
		"http://www.w3.org/2007/05/xmldsig-more#sha3-256": 32, "http://www.w3.org/2007/05/xmldsig-more#sha3-384": 48,
		"http://www.w3.org/2007/05/xmldsig-more#sha3-512": 64,
	} {
		value := digest(hashes[algorithm], leaf)
		require.Len(t, value, length)
		found, err := read([]byte(signedBy(carrying(leaf, other) + properties(v2, reference(algorithm, value)))))
		require.NoError(t, err)
		require.Equal(t, leaf, found.signer.Raw, algorithm)
	}
}

// costly are documents of the largest size that Vault lets through as base64.
func costly() map[string]string {
	const size = 786 << 10
	fill := func(part string) string { return strings.Repeat(part, size/len(part)) }
	many := func(part string) string { return strings.Repeat(part, maxMarkup/2-200) }
	object := `<ds:Object>` + encoded([]byte("<a>"+many("<b/>")+"</a>")) + `</ds:Object>`
	return map[string]string{
		"elements":            "<x>" + fill("<a/>") + "</x>",
		"as many as may be":   "<x>" + many("<a/>") + "</x>",
		"attributes":          "<x " + fill(`a="" `) + "/>",
		"namespaces":          "<x " + fill(`xmlns:a="b" `) + "/>",
		"depth":               fill("<a>"),
		"comments":            "<x>" + fill("<!---->") + "</x>",
		"text between":        "<x>" + strings.Repeat(strings.Repeat("t", size/maxMarkup*2)+"<!---->", maxMarkup/2-200) + "</x>",
		"text":                "<x>" + fill("t") + "</x>",
		"objects":             enveloping(strings.Repeat(object, size/len(object))),
		"certificates":        signedBy("<KeyInfo>" + strings.Repeat("<X509Certificate>"+strings.Repeat("QUFB", 40)+"</X509Certificate>", 3800) + "</KeyInfo>"),
		"certificates, named": signedBy("<KeyInfo>" + strings.Repeat("<X509Certificate>QUFB</X509Certificate>", 1500) + "</KeyInfo>" + properties("SigningCertificate", strings.Repeat(reference("http://www.w3.org/2001/04/xmlenc#sha256", nil), 700))),
	}
}

// allocated returns the memory that do allocates, collected or not.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Ten requests at once have ten decoded documents, one of which is parsed.
func TestSignedRequestCost(t *testing.T) {
	const whole = 32 << 20
	for name, document := range costly() {
		given := encoded([]byte(document))
		var wrapped strings.Builder
		for line := range slices.Chunk([]byte(given), 76) {
			wrapped.WriteString(string(line) + "\r\n")
		}
		for form, given := range map[string]string{"": given, ", wrapped": wrapped.String()} {
			t.Run(name+form, func(t *testing.T) {
				var decoded []byte
				var err error
				toDecode := allocated(func() { decoded, err = Decode(given) })
				require.NoError(t, err)
				toRead := allocated(func() { _, err = read(decoded) })
				t.Logf("%d KiB to decode, %d KiB to read: %.60v", toDecode>>10, toRead>>10, err)
				require.Less(t, 10*toDecode+toRead, uint64(whole))
			})
		}
	}
	t.Run("larger than allowed", func(t *testing.T) {
		_, err := Decode(strings.Repeat("QUFB", 1<<19))
		require.ErrorContains(t, err, "larger than 1 MiB")
		_, err = Decode("<" + strings.Repeat("x", MaxDocument))
		require.ErrorContains(t, err, "larger than 1 MiB")
		for _, given := range []string{strings.Repeat("QUFB", 8<<20), strings.Repeat("QUFB\r\n", 6<<20), "<" + strings.Repeat("x", 32<<20)} {
			size := allocated(func() { _, err = Decode(given) })
			require.ErrorContains(t, err, "larger than 1 MiB")
			require.Less(t, size, uint64(1<<20), "it is not copied")
		}
	})
}

// Fuzzing needs the same seeds in every process.
const (
	fuzzedLeaf = "MIIBbjCCARWgAwIBAgIUKOvS+DN3WMAKZSdWVIAgDjQN/XYwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjUwMTEx" +
		"MDVaGA8yMDgxMDgyODAxMTEwNVowDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLtOlcGavrJGpDL2gmSI" +
		"PU2GEHn6nynSlV9DAWi1LcQj1Yd+px0lvFnwmKJf42ck50o1G/Mqn6a7/rYt+0aS2LGjUzBRMB0GA1UdDgQWBBSWc4ps53JRdKNG" +
		"CXKkltaQDZcgiTAfBgNVHSMEGDAWgBSWc4ps53JRdKNGCXKkltaQDZcgiTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cA" +
		"MEQCIESyOstjgEXDWYsS226Ke6UFBMjdeINC+8mCoh15Qc9qAiB/JOFU3LighhwTZ999n/a5GPReoZvptbU1MPT8jkUYQQ=="
	fuzzedOther = "MIIBcDCCARWgAwIBAgIUBJSK9Mo2SKNvUr9qAv6stxD/s3owCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYjAgFw0yNjExMjUwMTEx" +
		"MDVaGA8yMDgxMDgyODAxMTEwNVowDDEKMAgGA1UEAwwBYjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+KWFJQaFcUzKZauyMo" +
		"A7OhkGitf88crKWAEmh3PdCWFTrKUCVD7XacTdFUpj1pmOPc9w61Qt9gKpupIBF5HRyjUzBRMB0GA1UdDgQWBBTitAhCs7A42Oku" +
		"Rl/dah0gVsrT6TAfBgNVHSMEGDAWgBTitAhCs7A42OkuRl/dah0gVsrT6TAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kA" +
		"MEYCIQDREp2UMXNJpFrmOhj8hGNc+1QAR47RPAPAa3YuljocIwIhAN2sQJwnJycL46yXRPLAHp8M3yhOL2IdLMfe6/QHtQKY"
)

// FuzzSigner checks that the signer's certificate is both carried and named.
func FuzzSigner(f *testing.F) {
	leaf, err := decodeBase64(fuzzedLeaf)
	require.NoError(f, err)
	other, err := decodeBase64(fuzzedOther)
	require.NoError(f, err)
	sum := sha256.Sum256(leaf)
	name := reference("http://www.w3.org/2001/04/xmlenc#sha256", sum[:])
	f.Add(carrying(leaf, other) + properties("SigningCertificate", name))
	f.Add(carrying(other) + properties("SigningCertificateV2", name))
	f.Add(carrying(leaf) + properties("SigningCertificate", name) + properties("SigningCertificate", name))
	f.Fuzz(func(t *testing.T, signature string) {
		found, err := read([]byte(signedBy(signature)))
		if err != nil || found.signer == nil {
			return
		}
		require.Contains(t, signature, "SigningCertificate")
		require.Contains(t, signature, "KeyInfo")
		require.Contains(t, []string{fuzzedLeaf, fuzzedOther}, encoded(found.signer.Raw), "no other certificate can be named by its digest")
	})
}
