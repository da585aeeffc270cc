// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package outside

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"
)

// MaxDocument bounds a signed request, in bytes: the fullest profiles carry the
// issuers' certificates and revocation lists.
const MaxDocument = 8 << 20

const (
	dsigNS = "http://www.w3.org/2000/09/xmldsig#"
	// KSeF accepts both versions of its schema.
	requestNS20 = "http://ksef.mf.gov.pl/auth/token/2.0"
	requestNS21 = "http://ksef.mf.gov.pl/auth/token/2.1"
)

// signed is what a signed request says. Whether its signature holds is for KSeF
// to judge, which knows more profiles than could be checked here.
type signed struct {
	challenge   string
	context     client.Context
	subjectType string
	// signer is nil where the signature does not carry the certificate.
	signer *x509.Certificate
}

// Decode returns the document of a signed request that was given as XML or as
// base64 of it. Errors are a *client.InputError.
func Decode(given string) ([]byte, error) {
	text := strings.TrimPrefix(strings.TrimSpace(given), "\ufeff")
	switch {
	case text == "":
		return nil, fault("is empty", "give the signed XML, or base64 of it: signed_request=@signed.xml")
	case len(text) > MaxDocument*4/3:
		return nil, fault(fmt.Sprintf("is larger than %d MiB", MaxDocument>>20), "sign without embedded revocation lists")
	case text[0] == '<':
		return []byte(given), nil
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, fault("is neither XML nor base64", "give the signed XML, or base64 of it: signed_request=@signed.xml")
	}
	return decoded, nil
}

func fault(what, remedy string) *client.InputError {
	return &client.InputError{Field: "signed_request", Fault: what, Remedy: remedy}
}

const signAgain = "sign the auth_token_request of login/begin as it is, as XAdES, enveloped or enveloping"

// read checks that a document is one request with one signature, enveloped or
// enveloping, and nothing besides what login/begin has given out.
func read(document []byte) (*signed, error) {
	root, err := parse(document)
	if err != nil {
		return nil, err
	}
	signatures := root.all(isSignature)
	switch len(signatures) {
	case 0:
		return nil, fault("carries no signature", signAgain)
	case 1:
	default:
		return nil, fault("carries more than one signature", "have one person sign, once")
	}
	request, err := root.request()
	if err != nil {
		return nil, err
	}
	if isSignature(root.XMLName) == isSignature(request.XMLName) && !slices.ContainsFunc(request.Nodes, func(n node) bool { return isSignature(n.XMLName) }) {
		return nil, fault("has its signature beside the request", signAgain)
	}
	read, err := request.content()
	if err != nil {
		return nil, err
	}
	read.signer = signatures[0].signer()
	return read, nil
}

// node is an element.
type node struct {
	XMLName xml.Name
	Text    string `xml:",chardata"`
	Nodes   []node `xml:",any"`
}

func isSignature(name xml.Name) bool { return name == xml.Name{Space: dsigNS, Local: "Signature"} }

func isRequest(name xml.Name) bool {
	return name.Local == "AuthTokenRequest" && (name.Space == requestNS20 || name.Space == requestNS21)
}

func parse(document []byte) (*node, error) {
	if err := wellFormed(document); err != nil {
		return nil, err
	}
	var root node
	if err := xml.Unmarshal(document, &root); err != nil {
		return nil, fault("is not well-formed XML in UTF-8: "+err.Error(), signAgain)
	}
	return &root, nil
}

// wellFormed reads the document to its end. A document type definition has no
// place in a request.
func wellFormed(document []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(document))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault("is not well-formed XML in UTF-8: "+err.Error(), signAgain)
		}
		if _, isDirective := token.(xml.Directive); isDirective {
			return fault("has a document type definition", signAgain)
		}
	}
}

// all finds the elements of a kind, wherever they stand.
func (n *node) all(kind func(xml.Name) bool) []*node {
	var found []*node
	if kind(n.XMLName) {
		found = append(found, n)
	}
	for i := range n.Nodes {
		found = append(found, n.Nodes[i].all(kind)...)
	}
	return found
}

// request finds the signed request: the root, or what an enveloping signature
// holds, as XML or as base64.
func (n *node) request() (*node, error) {
	found := n.all(isRequest)
	if len(found) == 0 && isSignature(n.XMLName) {
		for i := range n.Nodes {
			if inner := n.Nodes[i].encoded(); inner != nil {
				found = append(found, inner)
			}
		}
	}
	if len(found) != 1 {
		return nil, fault("holds no AuthTokenRequest of KSeF's, or more than one", signAgain)
	}
	return found[0], nil
}

// encoded reads an Object whose content is base64; nil for any other element.
func (n *node) encoded() *node {
	if n.XMLName != (xml.Name{Space: dsigNS, Local: "Object"}) || len(n.Nodes) > 0 {
		return nil
	}
	content, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Text), ""))
	if err != nil {
		return nil
	}
	inner, err := parse(content)
	if err != nil || !isRequest(inner.XMLName) {
		return nil
	}
	return inner
}

// content reads the request's elements, each of which it has once.
func (n *node) content() (*signed, error) {
	var read signed
	for _, child := range n.Nodes {
		text := strings.TrimSpace(child.Text)
		switch {
		case isSignature(child.XMLName):
		case child.XMLName.Local == "Challenge" && read.challenge == "":
			read.challenge = text
		case child.XMLName.Local == "SubjectIdentifierType" && read.subjectType == "":
			read.subjectType = text
		case child.XMLName.Local == "ContextIdentifier" && read.context.IsZero() && len(child.Nodes) == 1:
			inner := child.Nodes[0]
			read.context = client.Context{Type: client.ContextType(inner.XMLName.Local), Value: strings.TrimSpace(inner.Text)}
		default:
			return nil, fault(fmt.Sprintf("was altered: it has an element %s that login/begin did not give out", child.XMLName.Local), signAgain)
		}
	}
	if read.challenge == "" || read.subjectType == "" || read.context.IsZero() {
		return nil, fault("was altered: an element of the request is missing", signAgain)
	}
	return &read, nil
}

// signer finds the certificate of whoever has signed among those that a
// signature carries: the one that has issued no other.
func (n *node) signer() *x509.Certificate {
	var carried []*x509.Certificate
	for i := range n.Nodes {
		if n.Nodes[i].XMLName != (xml.Name{Space: dsigNS, Local: "KeyInfo"}) {
			continue
		}
		for _, one := range n.Nodes[i].all(func(name xml.Name) bool { return name == xml.Name{Space: dsigNS, Local: "X509Certificate"} }) {
			der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(one.Text), ""))
			if err != nil {
				return nil
			}
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				return nil
			}
			carried = append(carried, certificate)
		}
	}
	for _, candidate := range carried {
		issuesAnother := func(other *x509.Certificate) bool {
			return other != candidate && bytes.Equal(other.RawIssuer, candidate.RawSubject)
		}
		if !slices.ContainsFunc(carried, issuesAnother) {
			return candidate
		}
	}
	return nil
}
