// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" //nolint:gosec // some programs name certificates by it; two that match are refused
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/xml"
	"slices"
)

const xadesNS = "http://uri.etsi.org/01903/v1.3.2#"

func xadesName(local string) xml.Name { return xml.Name{Space: xadesNS, Local: local} }

// signer returns the signer's certificate: the one in KeyInfo whose digest is in the signed
// properties. It is nil where none or more than one matches, since KeyInfo need not be signed and
// can have any number.
func (n *node) signer() *x509.Certificate {
	var matching []byte
	named, first := n.namedDigests()
	for _, carried := range n.carriedCertificates() {
		der, err := decodeBase64(string(carried.text))
		if err != nil {
			return nil
		}
		switch {
		case !named.match(der) || bytes.Equal(matching, der):
		case matching != nil:
			return nil
		default:
			matching = der
		}
	}
	if !first.match(matching) {
		return nil
	}
	certificate, _ := x509.ParseCertificate(matching)
	return certificate
}

func (n *node) carriedCertificates() []*node {
	var found []*node
	for _, info := range n.descendants(dsig("KeyInfo")) {
		found = append(found, info.all(func(name xml.Name) bool { return name == dsig("X509Certificate") })...)
	}
	return found
}

// digests are certificate digests by algorithm.
type digests map[crypto.Hash][][]byte

// namedDigests reads SigningCertificate and SigningCertificateV2, in the only set of signed
// properties: another set could be unsigned. first are the digests of the first Cert, the signer's;
// the others are its issuers' (ETSI EN 319 132-1, 5.2.2).
func (n *node) namedDigests() (named, first digests) {
	named, first = make(digests), make(digests)
	properties := n.descendants(dsig("Object"), xadesName("QualifyingProperties"), xadesName("SignedProperties"))
	if len(properties) != 1 {
		return named, first
	}
	for _, kind := range []string{"SigningCertificate", "SigningCertificateV2"} {
		certs := properties[0].descendants(xadesName("SignedSignatureProperties"), xadesName(kind), xadesName("Cert"))
		for i, cert := range certs {
			for _, one := range cert.descendants(xadesName("CertDigest")) {
				named.add(one)
				if i == 0 {
					first.add(one)
				}
			}
		}
	}
	return named, first
}

func (d digests) add(certDigest *node) {
	methods, values := certDigest.descendants(dsig("DigestMethod")), certDigest.descendants(dsig("DigestValue"))
	if len(methods) != 1 || len(values) != 1 {
		return
	}
	hash, known := hashes[methods[0].algorithm]
	value, err := decodeBase64(string(values[0].text))
	if err == nil && known {
		d[hash] = append(d[hash], value)
	}
}

func (d digests) match(der []byte) bool {
	for hash, values := range d {
		own := digest(hash, der)
		if slices.ContainsFunc(values, func(value []byte) bool { return bytes.Equal(value, own) }) {
			return true
		}
	}
	return false
}

// hashes are those of certificate digests, as XML signatures name them.
var hashes = map[string]crypto.Hash{
	"http://www.w3.org/2000/09/xmldsig#sha1":          crypto.SHA1,
	"http://www.w3.org/2001/04/xmldsig-more#sha224":   crypto.SHA224,
	"http://www.w3.org/2001/04/xmlenc#sha256":         crypto.SHA256,
	"http://www.w3.org/2001/04/xmldsig-more#sha384":   crypto.SHA384,
	"http://www.w3.org/2001/04/xmlenc#sha512":         crypto.SHA512,
	"http://www.w3.org/2007/05/xmldsig-more#sha3-256": crypto.SHA3_256,
	"http://www.w3.org/2007/05/xmldsig-more#sha3-384": crypto.SHA3_384,
	"http://www.w3.org/2007/05/xmldsig-more#sha3-512": crypto.SHA3_512,
}

func digest(hash crypto.Hash, data []byte) []byte {
	sum := hash.New()
	sum.Write(data)
	return sum.Sum(nil)
}

// descendants returns the elements reached by following the names down from n.
func (n *node) descendants(names ...xml.Name) []*node {
	found := []*node{n}
	for _, name := range names {
		var next []*node
		for _, parent := range found {
			for _, inner := range parent.nodes {
				if inner.name == name {
					next = append(next, inner)
				}
			}
		}
		found = next
	}
	return found
}
