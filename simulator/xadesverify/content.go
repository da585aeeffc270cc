// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

// verifyReferences checks the digests of all references and returns the signed content: what
// exactly one of them covers. Another one, with the type of XAdES, covers the signed properties.
func (s *signature) verifyReferences(properties *etree.Element) (*etree.Element, *Error) {
	var content *etree.Element
	contents, propertySets := 0, 0
	for _, r := range s.references {
		data, refused := r.check(s)
		if refused != nil {
			return nil, refused
		}
		target, refused := r.resolve(s)
		if refused != nil {
			return nil, refused
		}
		switch {
		case r.kind == signedPropertiesType:
			propertySets++
			if target != properties {
				return nil, badProfile("Referencja typu SignedProperties wskazuje na inny element.")
			}
			if !r.onlyCanonicalizes() {
				return nil, badProfile("Referencja do SignedProperties może tylko kanonikalizować.")
			}
		case s.isContent(target, properties):
			contents++
			if content, refused = s.contentOf(target, data); refused != nil {
				return nil, refused
			}
		}
	}
	if propertySets != 1 {
		return nil, badProfile("Podpis ma %d referencji typu SignedProperties, wymagana jest jedna.", propertySets)
	}
	if contents != 1 {
		return nil, badProfile("Podpis ma %d referencji do podpisywanego dokumentu, wymagana jest jedna.", contents)
	}
	return content, nil
}

func (r reference) onlyCanonicalizes() bool {
	for _, transform := range r.transforms {
		if _, known, refused := newCanonicalizer(transform); !known || refused != nil {
			return false
		}
	}
	return true
}

// isContent reports whether an element is the signed document: the root around the signature, or an
// Object in the enveloping signature (other than that of the properties), or the only element in
// such an Object.
func (s *signature) isContent(target, properties *etree.Element) bool {
	if s.element != s.root {
		return target == s.root
	}
	for _, object := range s.objects {
		if object == properties.Parent().Parent() {
			continue
		}
		children := object.ChildElements()
		if target == object || (len(children) == 1 && target == children[0]) {
			return true
		}
	}
	return false
}

// contentOf returns the signed document as the digest covers it. Only an enveloping signature can
// have it in base64, as the text of its Object. Elsewhere the digest of decoded text would not
// cover the elements that are read.
func (s *signature) contentOf(target *etree.Element, data covered) (*etree.Element, *Error) {
	children := data.element.ChildElements()
	inObject := s.element == s.root && xmltree.Is(target, dsigNamespace, "Object")
	switch {
	case data.decoded && inObject && len(children) == 0:
		root, err := xmltree.Parse(data.octets)
		if err != nil {
			return nil, refusal(CodeNotXML, "Podpisana treść nie jest akceptowanym dokumentem XML: %v.", err)
		}
		return xmltree.Standalone(root), nil
	case data.decoded:
		return nil, badProfile("Transformacja base64 jest akceptowana tylko dla tekstu w ds:Object.")
	case inObject && len(children) == 1:
		return xmltree.Standalone(children[0]), nil
	case inObject:
		return nil, badProfile("Element ds:Object musi zawierać dokładnie jeden element.")
	}
	return data.element, nil
}
