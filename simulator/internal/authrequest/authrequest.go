// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package authrequest reads the document that is signed for a login.
package authrequest

import (
	"fmt"
	"regexp"

	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/ippolicy"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

// The namespaces of the two versions of the login document. The structure is the same in both.
const (
	authNamespace20 = "http://ksef.mf.gov.pl/auth/token/2.0"
	authNamespace21 = "http://ksef.mf.gov.pl/auth/token/2.1"
	xsiNamespace    = "http://www.w3.org/2001/XMLSchema-instance"
)

// The values of SubjectIdentifierType.
const (
	BySubject     = "certificateSubject"
	ByFingerprint = "certificateFingerprint"
)

var challengePattern = regexp.MustCompile(`^\d{8}-CR-[A-F0-9]{10}-[A-F0-9]{10}-[A-F0-9]{2}$`)

// Request is the content of an AuthTokenRequest.
type Request struct {
	Challenge   string
	Context     ksef.Identifier
	SubjectType string
	IPPolicy    ippolicy.Policy
}

// Read reads an AuthTokenRequest that is valid to schemat_auth_v2-0.xsd or schemat_auth_v2-1.xsd.
// For IP addresses it uses the patterns of 2.1 with both.
func Read(root *etree.Element) (Request, error) {
	namespace := root.NamespaceURI()
	if root.Tag != "AuthTokenRequest" || (namespace != authNamespace20 && namespace != authNamespace21) {
		return Request{}, fmt.Errorf("the root element must be AuthTokenRequest in the namespace %s or %s",
			authNamespace20, authNamespace21)
	}
	if err := onlySchemaAttributes(root); err != nil {
		return Request{}, err
	}
	parts, err := xmltree.Sequence(root, namespace,
		xmltree.Item{Tag: "Challenge", Min: 1, Max: 1}, xmltree.Item{Tag: "ContextIdentifier", Min: 1, Max: 1},
		xmltree.Item{Tag: "SubjectIdentifierType", Min: 1, Max: 1}, xmltree.Item{Tag: "AuthorizationPolicy", Max: 1})
	if err != nil {
		return Request{}, err
	}
	var read Request
	if read.Challenge, err = tokenText(parts["Challenge"][0]); err != nil {
		return Request{}, err
	}
	if !challengePattern.MatchString(read.Challenge) {
		return Request{}, fmt.Errorf("the value of Challenge does not match its pattern")
	}
	if read.Context, err = readContext(parts["ContextIdentifier"][0], namespace); err != nil {
		return Request{}, err
	}
	if read.SubjectType, err = tokenText(parts["SubjectIdentifierType"][0]); err != nil {
		return Request{}, err
	}
	if read.SubjectType != BySubject && read.SubjectType != ByFingerprint {
		return Request{}, fmt.Errorf("SubjectIdentifierType must be %s or %s", BySubject, ByFingerprint)
	}
	for _, policy := range parts["AuthorizationPolicy"] {
		if read.IPPolicy, err = readIPPolicy(policy, namespace); err != nil {
			return Request{}, err
		}
	}
	return read, nil
}

// onlySchemaAttributes refuses attributes that are not in the schema. The schema has none, so only
// those of XML Schema itself can occur.
func onlySchemaAttributes(root *etree.Element) error {
	var err error
	xmltree.Walk(root, func(element *etree.Element) {
		for _, attribute := range element.Attr {
			_, declaration := xmltree.DeclaredPrefix(attribute)
			if !declaration && (attribute.Space == "" || attribute.NamespaceURI() != xsiNamespace) {
				err = fmt.Errorf("the element %s cannot have the attribute %s", element.Tag, attribute.FullKey())
			}
		}
	})
	return err
}

func readContext(element *etree.Element, namespace string) (ksef.Identifier, error) {
	parts, err := xmltree.Sequence(element, namespace,
		xmltree.Item{Tag: ksef.TypeNIP, Max: 1}, xmltree.Item{Tag: ksef.TypeInternalID, Max: 1},
		xmltree.Item{Tag: ksef.TypeNIPVatUE, Max: 1}, xmltree.Item{Tag: ksef.TypePeppolID, Max: 1})
	if err != nil {
		return ksef.Identifier{}, err
	}
	if len(parts) != 1 {
		return ksef.Identifier{}, fmt.Errorf("ContextIdentifier must have exactly one of " +
			"Nip, InternalId, NipVatUe, PeppolId")
	}
	var context ksef.Identifier
	for kind, found := range parts {
		context.Type = kind
		if context.Value, err = xmltree.Text(found[0]); err != nil {
			return ksef.Identifier{}, err
		}
	}
	if !context.WellFormed() {
		return ksef.Identifier{}, fmt.Errorf("the value of %s does not match its pattern", context.Type)
	}
	return context, nil
}

func readIPPolicy(element *etree.Element, namespace string) (ippolicy.Policy, error) {
	parts, err := xmltree.Sequence(element, namespace, xmltree.Item{Tag: "AllowedIps", Min: 1, Max: 1})
	if err != nil {
		return nil, err
	}
	lists, err := xmltree.Sequence(parts["AllowedIps"][0], namespace,
		xmltree.Item{Tag: "Ip4Address", Max: ippolicy.MaxEntries}, xmltree.Item{Tag: "Ip4Range",
			Max: ippolicy.MaxEntries},
		xmltree.Item{Tag: "Ip4Mask", Max: ippolicy.MaxEntries})
	if err != nil {
		return nil, err
	}
	var allowed ippolicy.AllowedIPs
	for tag, into := range map[string]*[]string{"Ip4Address": &allowed.Addresses, "Ip4Range": &allowed.Ranges,
		"Ip4Mask": &allowed.Masks} {
		for _, entry := range lists[tag] {
			text, err := tokenText(entry)
			if err != nil {
				return nil, err
			}
			*into = append(*into, text)
		}
	}
	policy, fault := allowed.Policy()
	if fault != "" {
		return nil, fmt.Errorf("%s", fault)
	}
	return policy, nil
}

// tokenText reads a value of the type xsd:token.
func tokenText(element *etree.Element) (string, error) {
	text, err := xmltree.Text(element)
	return xmltree.Collapse(text), err
}
