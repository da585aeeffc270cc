// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package xmltree reads small XML documents from untrusted sources, and walks them.
package xmltree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/beevik/etree"
)

// Bounds of a document: the size in bytes, the depth of nesting, the number of nodes (elements,
// attributes, texts, comments), and the number of attributes of one element. Canonicalization
// copies the namespaces in scope for each element.
const (
	MaxSize       = 1 << 20
	MaxDepth      = 32
	MaxNodes      = 10_000
	MaxAttributes = 16
)

// ErrEncoding says that a document is not UTF-8.
var ErrEncoding = errors.New("the document is not UTF-8")

const xmlNamespace = "http://www.w3.org/XML/1998/namespace"

// Parse reads a document and returns its root element.
//
// It accepts less than XML allows, so that a verified document has one reading only. It refuses a
// DOCTYPE, processing instructions, duplicate attributes, undeclared prefixes, attributes of the
// xml namespace, line breaks and tabs in attribute values, attributes of two foreign namespaces on
// one element, and everything beyond the bounds. It accepts a byte order mark. The error wraps
// ErrEncoding when the document is not UTF-8 or declares another encoding.
func Parse(data []byte) (*etree.Element, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the document has %d bytes, at most %d are allowed", len(data), MaxSize)
	}
	if !utf8.Valid(data) {
		return nil, ErrEncoding
	}
	document := etree.NewDocument()
	foreign := false
	document.ReadSettings = etree.ReadSettings{
		PreserveDuplicateAttrs: true,
		MaxDepth:               MaxDepth,
		CharsetReader: func(string, io.Reader) (io.Reader, error) {
			foreign = true
			return nil, ErrEncoding
		},
	}
	err := document.ReadFromBytes(bytes.TrimPrefix(data, []byte("\uFEFF")))
	if foreign {
		return nil, ErrEncoding
	}
	if err != nil {
		return nil, fmt.Errorf("the document is not well-formed: %w", err)
	}
	root, err := onlyRoot(document)
	if err != nil {
		return nil, err
	}
	if len(document.Child) > MaxNodes {
		return nil, fmt.Errorf("the document has more than %d nodes", MaxNodes)
	}
	nodes := 0
	if err := checkElement(root, map[string]string{"xml": xmlNamespace}, &nodes); err != nil {
		return nil, err
	}
	return root, nil
}

func onlyRoot(document *etree.Document) (*etree.Element, error) {
	var root *etree.Element
	for i, child := range document.Child {
		switch token := child.(type) {
		case *etree.Element:
			if root != nil {
				return nil, errors.New("the document has more than one root element")
			}
			root = token
		case *etree.CharData:
			if !token.IsWhitespace() {
				return nil, errors.New("the document has text outside its root element")
			}
		case *etree.Comment:
		case *etree.ProcInst:
			if i != 0 || token.Target != "xml" {
				return nil, errors.New("processing instructions are not accepted")
			}
		default:
			return nil, errors.New("a DOCTYPE is not accepted")
		}
	}
	if root == nil {
		return nil, errors.New("the document has no root element")
	}
	return root, nil
}

func checkElement(element *etree.Element, scope map[string]string, nodes *int) error {
	*nodes += 1 + len(element.Attr) + len(element.Child)
	if *nodes > MaxNodes {
		return fmt.Errorf("the document has more than %d nodes", MaxNodes)
	}
	if len(element.Attr) > MaxAttributes {
		return fmt.Errorf("the element %s has more than %d attributes", element.Tag, MaxAttributes)
	}
	scope, err := declare(element, scope)
	if err != nil {
		return err
	}
	if err := checkNames(element, scope); err != nil {
		return err
	}
	for _, child := range element.Child {
		switch token := child.(type) {
		case *etree.Element:
			if err := checkElement(token, scope, nodes); err != nil {
				return err
			}
		case *etree.CharData, *etree.Comment:
		default:
			return errors.New("processing instructions and directives are not accepted")
		}
	}
	return nil
}

// declare adds the element's own namespace declarations to those in scope.
func declare(element *etree.Element, scope map[string]string) (map[string]string, error) {
	own := maps.Clone(scope)
	for _, attribute := range element.Attr {
		prefix, ok := DeclaredPrefix(attribute)
		if !ok {
			continue
		}
		if prefix == "xml" || prefix == "xmlns" || (prefix != "" && attribute.Value == "") {
			return nil, fmt.Errorf("the namespace prefix %q cannot be declared so", prefix)
		}
		own[prefix] = attribute.Value
	}
	return own, nil
}

func checkNames(element *etree.Element, scope map[string]string) error {
	if _, declared := scope[element.Space]; element.Space != "" && !declared {
		return fmt.Errorf("the namespace prefix %q is not declared", element.Space)
	}
	if strings.Contains(element.Tag, ":") {
		return fmt.Errorf("the element name %q is not valid", element.Tag)
	}
	foreign := ""
	raw, expanded := map[string]bool{}, map[string]bool{}
	for _, attribute := range element.Attr {
		if strings.ContainsAny(attribute.Value, "\t\r\n") {
			return fmt.Errorf("the attribute %q has a line break or a tab in it", attribute.FullKey())
		}
		if raw[attribute.FullKey()] || strings.Contains(attribute.Key, ":") {
			return fmt.Errorf("the attribute %q is not valid or occurs twice", attribute.FullKey())
		}
		raw[attribute.FullKey()] = true
		if _, declaration := DeclaredPrefix(attribute); declaration || attribute.Space == "" {
			continue
		}
		uri, declared := scope[attribute.Space]
		switch {
		case !declared:
			return fmt.Errorf("the namespace prefix %q is not declared", attribute.Space)
		case expanded[attribute.Key]:
			return fmt.Errorf("the attribute %q occurs twice", attribute.FullKey())
		case foreign != "" && foreign != uri:
			return errors.New("attributes of two namespaces on one element are not accepted")
		case uri == xmlNamespace:
			return fmt.Errorf("the attribute %q is not accepted", attribute.FullKey())
		}
		foreign, expanded[attribute.Key] = uri, true
	}
	return nil
}

// DeclaredPrefix returns the prefix of a namespace declaration ("" for the default namespace), and
// whether the attribute is one.
func DeclaredPrefix(attribute etree.Attr) (string, bool) {
	if attribute.Space == "xmlns" {
		return attribute.Key, true
	}
	return "", attribute.Space == "" && attribute.Key == "xmlns"
}
