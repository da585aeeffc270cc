// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin

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
	"vault-plugin-secrets-ksef/client/xades"
)

// Bounds of a signed request. Vault's default request size lets no more through, and the fullest
// profiles have some hundred elements.
const (
	// MaxDocument is in bytes.
	MaxDocument = 1 << 20
	// maxGiven bounds base64 with blanks and line ends. Longer text is not even decoded.
	maxGiven = 2 * MaxDocument
	// maxMarkup bounds the number of tags, and of attributes.
	maxMarkup = 8000
	maxDepth  = 64
)

const (
	dsigNS = "http://www.w3.org/2000/09/xmldsig#"
	// KSeF accepts both versions of its schema.
	requestNS20 = "http://ksef.mf.gov.pl/auth/token/2.0"
	requestNS21 = "http://ksef.mf.gov.pl/auth/token/2.1"
)

// signed is the content of a signed request. The signature is verified by KSeF alone, which knows
// more profiles than could be checked here.
type signed struct {
	challenge   string
	context     client.ContextIdentifier
	subjectType string
	allowedIPs  xades.AllowedIPs
	// signer is nil where the signature does not name exactly one of its certificates.
	signer *x509.Certificate
}

// Decode returns the document of a signed request given as XML, or as base64 of it. Errors are a
// *client.InputError.
func Decode(given string) ([]byte, error) {
	text := strings.TrimPrefix(strings.TrimSpace(given), "\ufeff")
	switch {
	case len(given) > maxGiven:
		return nil, errTooLarge
	case text == "":
		return nil, invalid("is empty", "give the signed XML, or base64 of it: signed_request=@signed.xml")
	case text[0] == '<':
		return bounded([]byte(given))
	}
	decoded, err := decodeBase64(text)
	if err != nil {
		return nil, invalid("is neither XML nor base64", "give the signed XML, or base64 of it: signed_request=@signed.xml")
	}
	return bounded(decoded)
}

var errTooLarge = invalid(fmt.Sprintf("is larger than %d MiB", MaxDocument>>20), "sign without embedded revocation lists")

func bounded(document []byte) ([]byte, error) {
	if len(document) > MaxDocument {
		return nil, errTooLarge
	}
	return document, nil
}

// blanks are those that base64 does not ignore by itself, as it does line ends.
var blanks = strings.NewReplacer(" ", "", "\t", "")

func decodeBase64(text string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(blanks.Replace(text))
}

func invalid(what, remedy string) *client.InputError {
	return &client.InputError{Field: "signed_request", Fault: what, Remedy: remedy}
}

const signAgain = "sign the auth_token_request of login/begin as it is, as XAdES, enveloped or enveloping"

// read checks that a document is one request with one signature, enveloped or enveloping, and
// nothing besides what login/begin returned.
func read(document []byte) (*signed, error) {
	root, err := parse(document)
	if err != nil {
		return nil, err
	}
	signatures := root.all(isSignature)
	switch len(signatures) {
	case 0:
		return nil, invalid("carries no signature", signAgain)
	case 1:
	default:
		return nil, invalid("carries more than one signature", "have one person sign, once")
	}
	request, err := root.request()
	if err != nil {
		return nil, err
	}
	if isSignature(root.name) == isSignature(request.name) && !slices.ContainsFunc(request.nodes, func(n *node) bool { return isSignature(n.name) }) {
		return nil, invalid("has its signature beside the request", signAgain)
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
	name xml.Name
	// algorithm is the attribute Algorithm.
	algorithm string
	text      []byte
	nodes     []*node
}

func dsig(local string) xml.Name { return xml.Name{Space: dsigNS, Local: local} }

func isSignature(name xml.Name) bool { return name == dsig("Signature") }

func isRequest(name xml.Name) bool {
	return name.Local == "AuthTokenRequest" && (name.Space == requestNS20 || name.Space == requestNS21)
}

// parse parses a document. It refuses one with more in it than a signed request can have before it
// takes memory: every tag has a "<" of its own, and every attribute a "=". A request has no
// document type definition.
func parse(document []byte) (*node, error) {
	if bytes.Count(document, []byte("<")) > maxMarkup || bytes.Count(document, []byte("=")) > maxMarkup {
		return nil, invalid(fmt.Sprintf("has more than %d tags or attributes", maxMarkup), signAgain)
	}
	decoder := xml.NewDecoder(bytes.NewReader(document))
	above := &node{}
	open := []*node{above}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed(decoder)
		}
		last := open[len(open)-1]
		switch token := token.(type) {
		case xml.Directive:
			return nil, invalid("has a document type definition", signAgain)
		case xml.StartElement:
			if len(open) > maxDepth {
				return nil, invalid(fmt.Sprintf("is nested more than %d deep", maxDepth), signAgain)
			}
			inner := &node{name: token.Name, algorithm: algorithmOf(token)}
			last.nodes = append(last.nodes, inner)
			open = append(open, inner)
		case xml.CharData:
			last.text = append(last.text, token...)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	if len(above.nodes) != 1 {
		return nil, invalid("is not well-formed XML in UTF-8: it has more than one root, or none", signAgain)
	}
	return above.nodes[0], nil
}

// malformed names the place alone: the decoder's own text quotes the document.
func malformed(decoder *xml.Decoder) error {
	line, column := decoder.InputPos()
	return invalid(fmt.Sprintf("is not well-formed XML in UTF-8, at line %d, column %d", line, column), signAgain)
}

func algorithmOf(element xml.StartElement) string {
	for _, attribute := range element.Attr {
		if attribute.Name == (xml.Name{Local: "Algorithm"}) {
			return attribute.Value
		}
	}
	return ""
}

// all returns the elements of a kind at any depth, n included.
func (n *node) all(kind func(xml.Name) bool) []*node {
	var found []*node
	if kind(n.name) {
		found = append(found, n)
	}
	for _, inner := range n.nodes {
		found = append(found, inner.all(kind)...)
	}
	return found
}

// request returns the signed request: the root, or the content of an enveloping signature, as XML
// or base64.
func (n *node) request() (*node, error) {
	found := n.all(isRequest)
	if len(found) == 0 && isSignature(n.name) {
		found = n.encoded()
	}
	if len(found) != 1 {
		return nil, invalid("holds no AuthTokenRequest of KSeF's, or more than one", signAgain)
	}
	return found[0], nil
}

// encoded returns the request in the only Object with base64 content.
func (n *node) encoded() []*node {
	objects := slices.DeleteFunc(n.descendants(dsig("Object")), func(object *node) bool { return len(object.nodes) > 0 })
	if len(objects) != 1 {
		return nil
	}
	content, err := decodeBase64(string(objects[0].text))
	if err != nil {
		return nil
	}
	inner, err := parse(content)
	if err != nil || !isRequest(inner.name) {
		return nil
	}
	return []*node{inner}
}

func (n *node) trimmed() string { return string(bytes.TrimSpace(n.text)) }

// readAllowedIPs reads the addresses of an AuthorizationPolicy. It returns false if there are none,
// or anything else.
func (n *node) readAllowedIPs(into *xades.AllowedIPs) bool {
	if len(n.nodes) != 1 || n.nodes[0].name.Local != "AllowedIps" {
		return false
	}
	lists := map[string]*[]string{"Ip4Address": &into.Addresses, "Ip4Range": &into.Ranges, "Ip4Mask": &into.Masks}
	for _, entry := range n.nodes[0].nodes {
		list := lists[entry.name.Local]
		if list == nil {
			return false
		}
		*list = append(*list, entry.trimmed())
	}
	return !into.IsZero()
}

// content reads the elements of the request, each of which must occur once.
func (n *node) content() (*signed, error) {
	var read signed
	for _, child := range n.nodes {
		text := child.trimmed()
		switch {
		case isSignature(child.name):
		case child.name.Local == "Challenge" && read.challenge == "":
			read.challenge = text
		case child.name.Local == "SubjectIdentifierType" && read.subjectType == "":
			read.subjectType = text
		case child.name.Local == "ContextIdentifier" && read.context.IsZero() && len(child.nodes) == 1:
			inner := child.nodes[0]
			read.context = client.ContextIdentifier{Type: client.ContextType(inner.name.Local), Value: inner.trimmed()}
		case child.name.Local == "AuthorizationPolicy" && read.allowedIPs.IsZero() && child.readAllowedIPs(&read.allowedIPs):
		case slices.Contains([]string{"Challenge", "SubjectIdentifierType", "ContextIdentifier", "AuthorizationPolicy"}, child.name.Local):
			return nil, invalid(fmt.Sprintf("was altered: it has an element %s that login/begin did not give out", child.name.Local), signAgain)
		default:
			return nil, invalid("was altered: it has an element that login/begin did not give out", signAgain)
		}
	}
	if read.challenge == "" || read.subjectType == "" || read.context.IsZero() {
		return nil, invalid("was altered: an element of the request is missing", signAgain)
	}
	return &read, nil
}
