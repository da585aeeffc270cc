// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"crypto"
	"crypto/subtle"
	"strings"

	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

const signedPropertiesType = "http://uri.etsi.org/01903#SignedProperties"

// Bounds of the work for one signature.
const (
	maxReferences = 8
	maxTransforms = 6
)

// reference is one ds:Reference of a ds:SignedInfo.
type reference struct {
	id, uri, kind string
	transforms    []*etree.Element
	hash          crypto.Hash
	value         []byte
}

func newReference(element *etree.Element) (reference, *Error) {
	parts, err := xmltree.Sequence(element, dsigNamespace,
		xmltree.Item{Tag: "Transforms", Max: 1}, xmltree.Item{Tag: "DigestMethod", Min: 1,
			Max: 1}, xmltree.Item{Tag: "DigestValue", Min: 1, Max: 1})
	if err != nil {
		return reference{}, badProfile("Błąd walidacji XSD: %v.", err)
	}
	uri, ok := xmltree.Lookup(element, "URI")
	if !ok {
		return reference{}, badProfile("Referencja bez atrybutu URI.")
	}
	made := reference{id: xmltree.Attribute(element, "Id"), uri: uri, kind: xmltree.Attribute(element, "Type")}
	for _, transforms := range parts["Transforms"] {
		found, err := xmltree.Sequence(transforms, dsigNamespace,
			xmltree.Item{Tag: "Transform", Min: 1, Max: maxTransforms})
		if err != nil {
			return reference{}, badProfile("Błąd walidacji XSD: %v.", err)
		}
		made.transforms = found["Transform"]
	}
	var refused *Error
	made.hash, made.value, refused = digestOf(parts["DigestMethod"][0], parts["DigestValue"][0])
	return made, refused
}

// digestOf reads a pair of ds:DigestMethod and ds:DigestValue.
func digestOf(method, value *etree.Element) (crypto.Hash, []byte, *Error) {
	hash, refused := digestAlgorithm(xmltree.Attribute(method, "Algorithm"))
	if refused != nil {
		return 0, nil, refused
	}
	text, err := xmltree.Text(value)
	if err != nil {
		return 0, nil, badProfile("Błąd walidacji XSD: %v.", err)
	}
	sum, err := decodeBase64(text)
	if err != nil {
		return 0, nil, badProfile("Wartość skrótu nie jest zapisana w base64.")
	}
	return hash, sum, nil
}

// resolve returns the element of the reference. Only same-document references are accepted: "" is
// the root, "#id" an element. Anything else would be a detached signature.
func (r reference) resolve(s *signature) (*etree.Element, *Error) {
	if r.uri == "" {
		return s.root, nil
	}
	id, local := strings.CutPrefix(r.uri, "#")
	if !local || strings.ContainsAny(id, "()") {
		return nil, badProfile("Referencja %q wskazuje poza dokument: "+
			"podpis zewnętrzny (detached) nie jest akceptowany.", r.uri)
	}
	target, ok := s.ids[id]
	if !ok {
		return nil, negative("Referencja %q nie wskazuje na żaden element.", r.uri)
	}
	return target, nil
}

// check verifies the digest of the reference, and returns what it covers.
func (r reference) check(s *signature) (covered, *Error) {
	target, refused := r.resolve(s)
	if refused != nil {
		return covered{}, refused
	}
	data := dereference(target, s)
	for _, transform := range r.transforms {
		if refused := data.apply(transform); refused != nil {
			return covered{}, refused
		}
	}
	octets, refused := data.canonical()
	if refused != nil {
		return covered{}, refused
	}
	if subtle.ConstantTimeCompare(digest(r.hash, octets), r.value) != 1 {
		return covered{}, negative("Nieprawidłowa wartość skrótu dla referencji wskazującej na element %s.", target.Tag)
	}
	return data, nil
}
