// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"regexp"
	"strings"

	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

const filter2Namespace = "http://www.w3.org/2002/06/xmldsig-filter2"

var (
	notSignature  = regexp.MustCompile(`^not\(\s*ancestor-or-self::([A-Za-z_][\w.-]*):Signature\s*\)$`)
	allSignatures = regexp.MustCompile(`^/descendant::([A-Za-z_][\w.-]*):Signature$`)
)

// covered is what a reference covers: an element while it is a node set, octets after a transform.
type covered struct {
	element         *etree.Element
	octets          []byte
	isOctets        bool
	decoded         bool // the octets come from the base64 transform
	insideSignature bool
}

// dereference makes the node set of a same-document reference: a copy of the element with the
// namespaces in scope, without comments (XMLDSIG, section 4.4.3.3).
func dereference(target *etree.Element, s *signature) covered {
	inside := false
	for e := target; e != nil; e = e.Parent() {
		inside = inside || e == s.element
	}
	element := xmltree.Standalone(target)
	xmltree.RemoveComments(element)
	return covered{element: element, insideSignature: inside}
}

// apply applies one ds:Transform.
func (c *covered) apply(transform *etree.Element) *Error {
	switch algorithm := xmltree.Attribute(transform, "Algorithm"); algorithm {
	case "http://www.w3.org/2000/09/xmldsig#enveloped-signature":
		return c.removeSignature()
	case "http://www.w3.org/TR/1999/REC-xpath-19991116":
		if !isSignatureFilter(transform, dsigNamespace, "", notSignature) {
			return badProfile("Wyrażenie XPath inne niż not(ancestor-or-self::ds:Signature) nie jest akceptowane.")
		}
		return c.removeSignature()
	case filter2Namespace:
		if !isSignatureFilter(transform, filter2Namespace, "subtract", allSignatures) {
			return badProfile("Filtr XPath inny niż subtract /descendant::ds:Signature nie jest akceptowany.")
		}
		return c.removeSignature()
	case "http://www.w3.org/2000/09/xmldsig#base64":
		return c.decode()
	default:
		method, known, refused := newCanonicalizer(transform)
		if refused != nil {
			return refused
		}
		if !known {
			return badProfile("Transformacja %q nie jest akceptowana.", algorithm)
		}
		return c.canonicalizeWith(method)
	}
}

// isSignatureFilter reports whether the only parameter of a transform is an XPath that removes
// signatures.
func isSignatureFilter(transform *etree.Element, namespace, filter string, expression *regexp.Regexp) bool {
	found, err := xmltree.Sequence(transform, namespace, xmltree.Item{Tag: "XPath", Min: 1, Max: 1})
	if err != nil {
		return false
	}
	parameter := found["XPath"][0]
	text, err := xmltree.Text(parameter)
	if err != nil || xmltree.Attribute(parameter, "Filter") != filter {
		return false
	}
	match := expression.FindStringSubmatch(strings.TrimSpace(text))
	return match != nil && namespaceOf(parameter, match[1]) == dsigNamespace
}

func namespaceOf(element *etree.Element, prefix string) string {
	for e := element; e != nil; e = e.Parent() {
		for _, attribute := range e.Attr {
			if attribute.Space == "xmlns" && attribute.Key == prefix {
				return attribute.Value
			}
		}
	}
	return ""
}

// removeSignature removes the signature from the node set. The document has only one, so the
// transforms that remove the enclosing signature, every signature or every signature's content have
// the same result.
func (c *covered) removeSignature() *Error {
	if c.isOctets || c.insideSignature {
		return badProfile("Transformacja usuwająca podpis nie ma czego usunąć.")
	}
	for _, element := range xmltree.Find(c.element, dsigNamespace, "Signature") {
		element.Parent().RemoveChildAt(element.Index())
	}
	return nil
}

// decode is the base64 transform: the text of the node set, without tags, is the octets in base64.
func (c *covered) decode() *Error {
	text := string(c.octets)
	if !c.isOctets {
		var all strings.Builder
		appendText(c.element, &all)
		text = all.String()
	}
	octets, err := decodeBase64(text)
	if err != nil {
		return badProfile("Podpisana treść nie jest zapisana w base64.")
	}
	c.octets, c.isOctets, c.decoded = octets, true, true
	return nil
}

func appendText(element *etree.Element, text *strings.Builder) {
	for _, child := range element.Child {
		switch token := child.(type) {
		case *etree.CharData:
			text.WriteString(token.Data)
		case *etree.Element:
			appendText(token, text)
		}
	}
}

func (c *covered) canonicalizeWith(method canonicalizer) *Error {
	if c.isOctets {
		return badProfile("Kanonikalizacja po kanonikalizacji albo po base64 nie jest akceptowana.")
	}
	octets, refused := method.canonicalize(c.element)
	if refused != nil {
		return refused
	}
	c.octets, c.isOctets = octets, true
	return nil
}

// canonical returns the octets to digest. A node set is canonicalized by the inclusive algorithm
// without comments.
func (c *covered) canonical() ([]byte, *Error) {
	if c.isOctets {
		return c.octets, nil
	}
	return implicitCanonicalizer().canonicalize(c.element)
}
