// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // some programs name certificates so; two that fit are refused
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"encoding/xml"
)

const xadesNS = "http://uri.etsi.org/01903/v1.3.2#"

func xadesName(local string) xml.Name { return xml.Name{Space: xadesNS, Local: local} }

// signer is the certificate of whoever has signed: the one among those that the signature carries
// whose digest its signed properties name. It is nil where none or more than one fits: KeyInfo need
// not be signed, and can carry any number.
func (n *node) signer() *x509.Certificate {
	var fitting []byte
	named, first := n.namedDigests()
	for _, carried := range n.carried() {
		der, err := decodeBase64(string(carried.text))
		if err != nil {
			return nil
		}
		switch {
		case !named.fit(der) || bytes.Equal(fitting, der):
		case fitting != nil:
			return nil
		default:
			fitting = der
		}
	}
	if !first.fit(fitting) {
		return nil
	}
	certificate, err := x509.ParseCertificate(fitting)
	if err != nil {
		return nil
	}
	return certificate
}

func (n *node) carried() []*node {
	var found []*node
	for _, info := range n.along(dsig("KeyInfo")) {
		found = append(found, info.all(func(name xml.Name) bool { return name == dsig("X509Certificate") })...)
	}
	return found
}

// digests are the values that are named, by their algorithms.
type digests map[string][][]byte

// namedDigests reads SigningCertificate and SigningCertificateV2. There is one set of signed
// properties: in another there could stand what nobody has signed. first are those of the signer,
// whom the first Cert names; the others are its issuers (ETSI EN 319 132-1, 5.2.2).
func (n *node) namedDigests() (named, first digests) {
	named, first = make(digests), make(digests)
	properties := n.along(dsig("Object"), xadesName("QualifyingProperties"), xadesName("SignedProperties"))
	if len(properties) != 1 {
		return named, first
	}
	for _, kind := range []string{"SigningCertificate", "SigningCertificateV2"} {
		certs := properties[0].along(xadesName("SignedSignatureProperties"), xadesName(kind), xadesName("Cert"))
		for i, cert := range certs {
			for _, one := range cert.along(xadesName("CertDigest")) {
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
	methods, values := certDigest.along(dsig("DigestMethod")), certDigest.along(dsig("DigestValue"))
	if len(methods) != 1 || len(values) != 1 {
		return
	}
	algorithm := methods[0].algorithm
	value, err := decodeBase64(string(values[0].text))
	if err == nil && digest(algorithm, nil) != nil {
		d[algorithm] = append(d[algorithm], value)
	}
}

func (d digests) fit(der []byte) bool {
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

// digest is nil for an algorithm that no document may use.
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

// along follows the names down from an element.
func (n *node) along(names ...xml.Name) []*node {
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
