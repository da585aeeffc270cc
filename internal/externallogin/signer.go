// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // some programs name certificates by it; two that match are refused
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"encoding/xml"
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
	certificate, err := x509.ParseCertificate(matching)
	if err != nil {
		return nil
	}
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
type digests map[string][][]byte

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
	algorithm := methods[0].algorithm
	value, err := decodeBase64(string(values[0].text))
	if err == nil && digest(algorithm, nil) != nil {
		d[algorithm] = append(d[algorithm], value)
	}
}

func (d digests) match(der []byte) bool {
	for algorithm, values := range d {
		own := digest(algorithm, der)
		for _, value := range values {
			if bytes.Equal(value, own) {
				return true
			}
		}
	}
	return false
}

// digest returns nil for an algorithm that no document may use.
func digest(algorithm string, data []byte) []byte {
	switch algorithm {
	case "http://www.w3.org/2000/09/xmldsig#sha1":
		sum := sha1.Sum(data) //nolint:gosec // see the import
		return sum[:]
	case "http://www.w3.org/2001/04/xmldsig-more#sha224":
		sum := sha256.Sum224(data)
		return sum[:]
	case "http://www.w3.org/2001/04/xmlenc#sha256":
		sum := sha256.Sum256(data)
		return sum[:]
	case "http://www.w3.org/2001/04/xmldsig-more#sha384":
		sum := sha512.Sum384(data)
		return sum[:]
	case "http://www.w3.org/2001/04/xmlenc#sha512":
		sum := sha512.Sum512(data)
		return sum[:]
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-256":
		sum := sha3.Sum256(data)
		return sum[:]
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-384":
		sum := sha3.Sum384(data)
		return sum[:]
	case "http://www.w3.org/2007/05/xmldsig-more#sha3-512":
		sum := sha3.Sum512(data)
		return sum[:]
	}
	return nil
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
