// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package xadestest signs login requests for tests, in the layouts of programs whose signatures
// KSeF accepts.
//
// It writes every canonical form as text, so that it shares nothing with a canonicalizer or a
// verifier.
package xadestest

import "strings"

// The namespaces and algorithms of the layouts.
const (
	DSig  = "http://www.w3.org/2000/09/xmldsig#"
	XAdES = "http://uri.etsi.org/01903/v1.3.2#"
	Auth  = "http://ksef.mf.gov.pl/auth/token/2.0"

	exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	inclusive = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
)

// Layout is how a program writes its signatures.
type Layout struct {
	Prefix     string // of ds elements, with the colon; "" for the default namespace
	Inclusive  bool   // canonical form of SignedInfo: inclusive, else exclusive
	Transform  string // the transform that removes the signature; empty for an enveloping one
	RootXMLNS  string // more namespace declarations on the root, in canonical order
	V2         bool   // SigningCertificateV2, else the legacy form
	Formats    bool   // SignedDataObjectProperties with a DataObjectFormat
	Enveloping bool
	Base64     bool // the content of an enveloping signature as base64 text
}

// CSharp is the layout of the official C# client.
func CSharp() Layout {
	return Layout{
		Inclusive: true,
		Transform: `<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></Transform>`,
		RootXMLNS: ` xmlns:xsd="http://www.w3.org/2001/XMLSchema"` +
			` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`,
	}
}

// DSS is the layout of the official Java client, which signs with EU DSS.
func DSS() Layout {
	return Layout{
		Prefix: "ds:",
		Transform: `<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116">` +
			`<ds:XPath>not(ancestor-or-self::ds:Signature)</ds:XPath></ds:Transform>`,
		Formats: true,
	}
}

// GoDSS is the layout of alapierre/godss.
func GoDSS() Layout {
	return Layout{
		Prefix: "ds:",
		Transform: `<ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2">` +
			`<dsig-xpath:XPath xmlns:dsig-xpath="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">` +
			`/descendant::ds:Signature</dsig-xpath:XPath></ds:Transform>`,
		Formats: true,
	}
}

// SignXML is the layout of Python's signxml.
func SignXML() Layout {
	return Layout{
		Prefix:    "ds:",
		Transform: `<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>`,
		V2:        true,
	}
}

// Enveloping is a signature with the request inside it.
func Enveloping() Layout {
	return Layout{Prefix: "ds:", Enveloping: true}
}

// EnvelopingBase64 is DSS's enveloping signature: the request as base64 text in the Object.
func EnvelopingBase64() Layout {
	return Layout{Prefix: "ds:", Enveloping: true, Base64: true}
}

// writer writes ds and xades elements, either as in the document or as in the exclusive canonical
// form with SignedInfo or SignedProperties as the root.
type writer struct {
	Layout
	canonical bool
}

// ds writes an element of the signature namespace. The canonical form declares it on the root, and
// within xades elements where the namespace is the default one.
func (w writer) ds(declare bool, name, attributes, content string) string {
	namespace := ""
	if declare && w.canonical {
		namespace = " xmlns" + strings.TrimSuffix(":"+w.Prefix, ":") + `="` + DSig + `"`
	}
	return "<" + w.Prefix + name + namespace + attributes + ">" + content + "</" + w.Prefix + name + ">"
}

// xades writes an element of the XAdES namespace, which always has the prefix xades.
func (w writer) xades(declare bool, name, attributes, content string) string {
	namespace := ""
	if declare && w.canonical {
		namespace = ` xmlns:xades="` + XAdES + `"`
	}
	return "<xades:" + name + namespace + attributes + ">" + content + "</xades:" + name + ">"
}
