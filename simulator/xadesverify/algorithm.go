// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // makes crypto.SHA256 available
	_ "crypto/sha3"   // makes crypto.SHA3_256, crypto.SHA3_384 and crypto.SHA3_512 available
	_ "crypto/sha512" // makes crypto.SHA384 and crypto.SHA512 available
	"encoding/base64"
	"math/big"
	"strings"
)

// Accepted key sizes, in bits. KSeF has no upper bound for RSA; this one bounds the work of a
// verification.
const (
	minRSABits   = 2048
	maxRSABits   = 8192
	minECDSABits = 256
)

// digestAlgorithm reads the algorithm of a digest. KSeF's list (podpis-xades.md) also has SHA-1,
// which is refused here because production refuses it (ksef-client-csharp issue 215). SHA-224 and
// SHA3-224 are not on the list.
func digestAlgorithm(uri string) (crypto.Hash, *Error) {
	switch uri {
	case "http://www.w3.org/2001/04/xmlenc#sha256":
		return crypto.SHA256, nil
	case "http://www.w3.org/2001/04/xmldsig-more#sha384":
		return crypto.SHA384, nil
	case "http://www.w3.org/2001/04/xmlenc#sha512":
		return crypto.SHA512, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-256": // RFC 9231, section 2.1.5
		return crypto.SHA3_256, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-384":
		return crypto.SHA3_384, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-512":
		return crypto.SHA3_512, nil
	}
	return 0, badAlgorithm("Algorytm skrótu %q nie jest wspierany.", uri)
}

func digest(hash crypto.Hash, octets []byte) []byte {
	sum := hash.New()
	sum.Write(octets)
	return sum.Sum(nil)
}

type scheme int

const (
	pkcs1 scheme = iota
	pss
	ecdsaRaw
)

type signatureAlgorithm struct {
	scheme scheme
	hash   crypto.Hash
}

// newSignatureAlgorithm reads the algorithm of a signature value. KSeF's list has SHA-3 with PSS
// and ECDSA only.
func newSignatureAlgorithm(uri string) (signatureAlgorithm, *Error) {
	switch uri {
	case "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256":
		return signatureAlgorithm{pkcs1, crypto.SHA256}, nil
	case "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384":
		return signatureAlgorithm{pkcs1, crypto.SHA384}, nil
	case "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":
		return signatureAlgorithm{pkcs1, crypto.SHA512}, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1":
		return signatureAlgorithm{pss, crypto.SHA256}, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1":
		return signatureAlgorithm{pss, crypto.SHA384}, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1":
		return signatureAlgorithm{pss, crypto.SHA512}, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-256-rsa-MGF1":
		return signatureAlgorithm{pss, crypto.SHA3_256}, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-384-rsa-MGF1":
		return signatureAlgorithm{pss, crypto.SHA3_384}, nil
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-512-rsa-MGF1":
		return signatureAlgorithm{pss, crypto.SHA3_512}, nil
	case "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256":
		return signatureAlgorithm{ecdsaRaw, crypto.SHA256}, nil
	case "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384":
		return signatureAlgorithm{ecdsaRaw, crypto.SHA384}, nil
	case "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512":
		return signatureAlgorithm{ecdsaRaw, crypto.SHA512}, nil
	case "http://www.w3.org/2021/04/xmldsig-more#ecdsa-sha3-256":
		return signatureAlgorithm{ecdsaRaw, crypto.SHA3_256}, nil
	case "http://www.w3.org/2021/04/xmldsig-more#ecdsa-sha3-384":
		return signatureAlgorithm{ecdsaRaw, crypto.SHA3_384}, nil
	case "http://www.w3.org/2021/04/xmldsig-more#ecdsa-sha3-512":
		return signatureAlgorithm{ecdsaRaw, crypto.SHA3_512}, nil
	}
	return signatureAlgorithm{}, badAlgorithm("Algorytm podpisu %q nie jest wspierany.", uri)
}

// verify checks a signature value over octets with a public key of a certificate.
func (a signatureAlgorithm) verify(public crypto.PublicKey, octets, value []byte) *Error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return a.verifyRSA(key, digest(a.hash, octets), value)
	case *ecdsa.PublicKey:
		return a.verifyECDSA(key, digest(a.hash, octets), value)
	}
	return badAlgorithm("Klucz publiczny certyfikatu nie jest kluczem RSA ani ECDSA.")
}

func (a signatureAlgorithm) verifyRSA(key *rsa.PublicKey, sum, value []byte) *Error {
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return badAlgorithm("Klucz RSA ma %d bitów, wymagane jest od %d do %d.", bits, minRSABits, maxRSABits)
	}
	var err error
	switch a.scheme {
	case pkcs1:
		err = rsa.VerifyPKCS1v15(key, a.hash, sum, value)
	case pss:
		// RFC 9231, section 2.3.10: the salt is as long as the digest.
		err = rsa.VerifyPSS(key, a.hash, sum, value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		return badAlgorithm("Algorytm podpisu nie pasuje do klucza RSA certyfikatu.")
	}
	if err != nil {
		return negative("Nieprawidłowa wartość podpisu.")
	}
	return nil
}

// verifyECDSA accepts r||s, each as long as the order of the curve, as RFC 4050 and XMLDSIG
// require. It refuses DER.
func (a signatureAlgorithm) verifyECDSA(key *ecdsa.PublicKey, sum, value []byte) *Error {
	if a.scheme != ecdsaRaw {
		return badAlgorithm("Algorytm podpisu nie pasuje do klucza ECDSA certyfikatu.")
	}
	bits := key.Curve.Params().N.BitLen()
	if bits < minECDSABits {
		return badAlgorithm("Klucz ECDSA ma %d bitów, wymagane jest co najmniej %d.", bits, minECDSABits)
	}
	size := (bits + 7) / 8
	if len(value) != 2*size {
		return negative("Wartość podpisu ECDSA ma %d bajtów zamiast %d: wymagane jest r||s, nie DER.", len(value),
			2*size)
	}
	r, s := new(big.Int).SetBytes(value[:size]), new(big.Int).SetBytes(value[size:])
	if !ecdsa.Verify(key, sum, r, s) {
		return negative("Nieprawidłowa wartość podpisu.")
	}
	return nil
}

// decodeBase64 reads base64 as in XML Schema, with white space anywhere.
func decodeBase64(text string) ([]byte, error) {
	return base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(text), ""))
}
