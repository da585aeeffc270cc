// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"slices"
	"strings"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

const exclusiveNamespace = "http://www.w3.org/2001/10/xml-exc-c14n#"

// canonicalizer is one of the accepted canonicalization algorithms.
type canonicalizer struct {
	dsig.Canonicalizer
}

// newCanonicalizer reads a ds:CanonicalizationMethod or ds:Transform. The second result is false
// when the algorithm is not a canonicalization.
func newCanonicalizer(method *etree.Element) (canonicalizer, bool, *Error) {
	switch dsig.AlgorithmID(xmltree.Attribute(method, "Algorithm")) {
	case dsig.CanonicalXML10RecAlgorithmId:
		return newInclusive(method, dsig.MakeC14N10RecCanonicalizer())
	case dsig.CanonicalXML10WithCommentsAlgorithmId:
		return newInclusive(method, dsig.MakeC14N10WithCommentsCanonicalizer())
	case dsig.CanonicalXML11AlgorithmId:
		return newInclusive(method, dsig.MakeC14N11Canonicalizer())
	case dsig.CanonicalXML11WithCommentsAlgorithmId:
		return newInclusive(method, dsig.MakeC14N11WithCommentsCanonicalizer())
	case dsig.CanonicalXML10ExclusiveAlgorithmId:
		return newExclusive(method, dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList)
	case dsig.CanonicalXML10ExclusiveWithCommentsAlgorithmId:
		return newExclusive(method, dsig.MakeC14N10ExclusiveWithCommentsCanonicalizerWithPrefixList)
	}
	return canonicalizer{}, false, nil
}

func newInclusive(method *etree.Element, algorithm dsig.Canonicalizer) (canonicalizer, bool, *Error) {
	if len(method.ChildElements()) > 0 {
		return canonicalizer{}, true, badProfile("Algorytm kanonikalizacji inkluzywnej nie przyjmuje parametrów.")
	}
	return canonicalizer{algorithm}, true, nil
}

func newExclusive(method *etree.Element, algorithm func(string) dsig.Canonicalizer) (canonicalizer, bool, *Error) {
	prefixes, err := inclusivePrefixes(method)
	if err != nil {
		return canonicalizer{}, true, err
	}
	return canonicalizer{algorithm(prefixes)}, true, nil
}

func inclusivePrefixes(method *etree.Element) (string, *Error) {
	found, err := xmltree.Sequence(method, exclusiveNamespace, xmltree.Item{Tag: "InclusiveNamespaces", Max: 1})
	if err != nil {
		return "", badProfile("Nieprawidłowe parametry kanonikalizacji: %v.", err)
	}
	if len(found["InclusiveNamespaces"]) == 0 {
		return "", nil
	}
	prefixes := xmltree.Attribute(found["InclusiveNamespaces"][0], "PrefixList")
	if slices.Contains(strings.Fields(prefixes), "#default") {
		return "", badProfile("Lista InclusiveNamespaces z wartością #default nie jest wspierana.")
	}
	return prefixes, nil
}

// canonicalize returns the canonical form of an element in its place in the document. It does not
// change the element.
func (c canonicalizer) canonicalize(element *etree.Element) ([]byte, *Error) {
	octets, err := c.Canonicalize(xmltree.Standalone(element))
	if err != nil {
		return nil, badProfile("Kanonikalizacja nie powiodła się: %v.", err)
	}
	return octets, nil
}

// implicitCanonicalizer returns the algorithm that XMLDSIG applies when the transforms leave a node
// set (section 4.4.3.2).
func implicitCanonicalizer() canonicalizer {
	return canonicalizer{dsig.MakeC14N10RecCanonicalizer()}
}
