// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xmltree

import (
	"fmt"
	"slices"
	"strings"

	"github.com/beevik/etree"
)

// Is reports whether an element has this namespace and local name.
func Is(element *etree.Element, namespace, tag string) bool {
	return element.Tag == tag && element.NamespaceURI() == namespace
}

// Text returns the whole text of an element without child elements, also around comments.
func Text(element *etree.Element) (string, error) {
	var text strings.Builder
	for _, child := range element.Child {
		switch token := child.(type) {
		case *etree.CharData:
			text.WriteString(token.Data)
		case *etree.Element:
			return "", fmt.Errorf("the element %s cannot have the child %s", element.Tag, token.Tag)
		}
	}
	return text.String(), nil
}

// Collapse trims white space and joins the rest by single blanks, as xsd:token does.
func Collapse(text string) string {
	return strings.Join(strings.Fields(text), " ")
}

// Attribute returns the value of an attribute without a namespace, "" when it is missing.
func Attribute(element *etree.Element, key string) string {
	value, _ := Lookup(element, key)
	return value
}

// Lookup returns the value of an attribute without a namespace, and whether it is there.
func Lookup(element *etree.Element, key string) (string, bool) {
	return lookup(element, "", key)
}

func lookup(element *etree.Element, space, key string) (string, bool) {
	for _, attribute := range element.Attr {
		if attribute.Space == space && attribute.Key == key {
			return attribute.Value, true
		}
	}
	return "", false
}

// Find returns the element itself and all its descendants that have this namespace and local name,
// in document order.
func Find(element *etree.Element, namespace, tag string) []*etree.Element {
	var found []*etree.Element
	Walk(element, func(e *etree.Element) {
		if Is(e, namespace, tag) {
			found = append(found, e)
		}
	})
	return found
}

// Walk calls a function for an element and all its descendants, in document order.
func Walk(element *etree.Element, do func(*etree.Element)) {
	do(element)
	for _, child := range element.ChildElements() {
		Walk(child, do)
	}
}

// Item is one step of a sequence: at least Min and at most Max (0 = any number) child elements of
// one name.
type Item struct {
	Tag      string
	Min, Max int
}

// Sequence checks that the children of an element are those of a sequence in one namespace, in this
// order and number, without text between them, and returns them by name.
func Sequence(element *etree.Element, namespace string, items ...Item) (map[string][]*etree.Element, error) {
	if strings.TrimSpace(directText(element)) != "" {
		return nil, fmt.Errorf("the element %s cannot have text", element.Tag)
	}
	children := element.ChildElements()
	found := make(map[string][]*etree.Element, len(items))
	next := 0
	for _, item := range items {
		for next < len(children) && Is(children[next], namespace, item.Tag) {
			found[item.Tag] = append(found[item.Tag], children[next])
			next++
		}
		count := len(found[item.Tag])
		if count < item.Min {
			return nil, fmt.Errorf("the element %s lacks %s at its place", element.Tag, item.Tag)
		}
		if item.Max > 0 && count > item.Max {
			return nil, fmt.Errorf("the element %s has more than %d of %s", element.Tag, item.Max, item.Tag)
		}
	}
	if next < len(children) {
		return nil, fmt.Errorf("the element %s cannot have the child %s there", element.Tag, children[next].Tag)
	}
	return found, nil
}

func directText(element *etree.Element) string {
	var text strings.Builder
	for _, child := range element.Child {
		if data, ok := child.(*etree.CharData); ok {
			text.WriteString(data.Data)
		}
	}
	return text.String()
}

// Standalone returns a copy of an element without a parent on which all namespaces in scope are
// declared, so that it canonicalizes as it would in its place.
func Standalone(element *etree.Element) *etree.Element {
	copied := element.Copy()
	for parent := element.Parent(); parent != nil; parent = parent.Parent() {
		for _, attribute := range parent.Attr {
			_, declaration := DeclaredPrefix(attribute)
			if _, own := lookup(copied, attribute.Space, attribute.Key); declaration && !own {
				copied.CreateAttr(attribute.FullKey(), attribute.Value)
			}
		}
	}
	// At the top, xmlns="" has no effect and is not part of the canonical form.
	copied.Attr = slices.DeleteFunc(copied.Attr, func(attribute etree.Attr) bool {
		prefix, declaration := DeclaredPrefix(attribute)
		return declaration && prefix == "" && attribute.Value == ""
	})
	return copied
}

// RemoveComments removes all comments below an element.
func RemoveComments(element *etree.Element) {
	for i := len(element.Child) - 1; i >= 0; i-- {
		switch token := element.Child[i].(type) {
		case *etree.Comment:
			element.RemoveChildAt(i)
		case *etree.Element:
			RemoveComments(token)
		}
	}
}
