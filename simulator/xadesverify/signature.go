// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"crypto/x509"
	"strings"

	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

const dsigNamespace = "http://www.w3.org/2000/09/xmldsig#"

// signature is the parsed ds:Signature of a document.
type signature struct {
	root, element *etree.Element
	ids           map[string]*etree.Element

	signedInfo *etree.Element
	method     canonicalizer
	algorithm  signatureAlgorithm
	references []reference
	value      []byte
	leaf       *x509.Certificate
	objects    []*etree.Element
}

// newSignature finds the one signature of a document: a child of the root (enveloped) or the root
// itself (enveloping).
func newSignature(root *etree.Element) (*signature, *Error) {
	found := xmltree.Find(root, dsigNamespace, "Signature")
	switch len(found) {
	case 0:
		return nil, refusal(CodeNoSignature, "Dokument nie zawiera elementu ds:Signature.")
	case 1:
	default:
		return nil, refusal(CodeManySignatures, "Dokument zawiera %d podpisy, dozwolony jest jeden.", len(found))
	}
	s := &signature{root: root, element: found[0]}
	if s.element != root && s.element.Parent() != root {
		return nil, badProfile("Podpis nie jest dzieckiem elementu głównego ani elementem głównym.")
	}
	var refused *Error
	if s.ids, refused = collectIDs(root); refused != nil {
		return nil, refused
	}
	return s, s.parse()
}

// collectIDs maps Ids to elements. It refuses a repeated Id, because the signature could cover one
// element and the reader read the other.
func collectIDs(root *etree.Element) (map[string]*etree.Element, *Error) {
	ids := map[string]*etree.Element{}
	var refused *Error
	xmltree.Walk(root, func(element *etree.Element) {
		for _, attribute := range element.Attr {
			if attribute.Space != "" || !strings.EqualFold(attribute.Key, "id") {
				continue
			}
			if _, taken := ids[attribute.Value]; taken {
				refused = badProfile("Identyfikator %q występuje więcej niż raz.", attribute.Value)
			}
			ids[attribute.Value] = element
		}
	})
	return ids, refused
}

func (s *signature) parse() *Error {
	parts, err := xmltree.Sequence(s.element, dsigNamespace,
		xmltree.Item{Tag: "SignedInfo", Min: 1, Max: 1}, xmltree.Item{Tag: "SignatureValue", Min: 1, Max: 1},
		xmltree.Item{Tag: "KeyInfo", Max: 1}, xmltree.Item{Tag: "Object"})
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	s.objects = parts["Object"]
	if refused := s.parseSignedInfo(parts["SignedInfo"][0]); refused != nil {
		return refused
	}
	text, err := xmltree.Text(parts["SignatureValue"][0])
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	if s.value, err = decodeBase64(text); err != nil {
		return badProfile("Wartość podpisu nie jest zapisana w base64.")
	}
	if len(parts["KeyInfo"]) == 0 {
		return badProfile("Brak elementu ds:KeyInfo z certyfikatem.")
	}
	var refused *Error
	s.leaf, refused = leafCertificate(parts["KeyInfo"][0])
	return refused
}

func (s *signature) parseSignedInfo(element *etree.Element) *Error {
	parts, err := xmltree.Sequence(element, dsigNamespace,
		xmltree.Item{Tag: "CanonicalizationMethod", Min: 1, Max: 1}, xmltree.Item{Tag: "SignatureMethod", Min: 1,
			Max: 1},
		xmltree.Item{Tag: "Reference", Min: 1, Max: maxReferences})
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	s.signedInfo = element
	var known bool
	var refused *Error
	if s.method, known, refused = newCanonicalizer(parts["CanonicalizationMethod"][0]); refused != nil {
		return refused
	}
	if !known {
		return badProfile("Algorytm kanonikalizacji nie jest akceptowany.")
	}
	if s.algorithm, refused = newSignatureAlgorithm(xmltree.Attribute(parts["SignatureMethod"][0],
		"Algorithm")); refused != nil {
		return refused
	}
	for _, part := range parts["Reference"] {
		made, refused := newReference(part)
		if refused != nil {
			return refused
		}
		s.references = append(s.references, made)
	}
	return nil
}

// leafCertificate reads the first ds:X509Certificate of a ds:KeyInfo, the signer's. The rest of its
// chain may follow.
func leafCertificate(keyInfo *etree.Element) (*x509.Certificate, *Error) {
	certificates := xmltree.Find(keyInfo, dsigNamespace, "X509Certificate")
	if len(certificates) == 0 {
		return nil, badProfile("Brak certyfikatu w elemencie ds:KeyInfo.")
	}
	text, err := xmltree.Text(certificates[0])
	if err != nil {
		return nil, badProfile("Błąd walidacji XSD: %v.", err)
	}
	der, err := decodeBase64(text)
	if err != nil {
		return nil, refusal(CodeCertificate, "Certyfikat nie jest zapisany w base64.")
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refusal(CodeCertificate, "Certyfikatu nie da się odczytać: %v.", err)
	}
	return leaf, nil
}

// verifyValue checks the signature value over the canonical ds:SignedInfo.
func (s *signature) verifyValue() *Error {
	octets, refused := s.method.canonicalize(s.signedInfo)
	if refused != nil {
		return refused
	}
	return s.algorithm.verify(s.leaf.PublicKey, octets, s.value)
}
