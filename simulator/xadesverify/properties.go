// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadesverify

import (
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"strings"
	"time"

	"github.com/beevik/etree"

	"vault-plugin-secrets-ksef/simulator/internal/xmltree"
)

const xadesNamespace = "http://uri.etsi.org/01903/v1.3.2#"

// maxSerialDigits is more than the digits of a serial number of RFC 5280 (20 octets).
const maxSerialDigits = 64

// properties are the parsed signed properties of XAdES.
type properties struct {
	element     *etree.Element
	signingTime time.Time
}

// newProperties finds and checks the xades:QualifyingProperties of a signature (ETSI EN 319 132-1,
// TS 101 903).
func newProperties(s *signature) (properties, *Error) {
	qualifying := xmltree.Find(s.root, xadesNamespace, "QualifyingProperties")
	if len(qualifying) != 1 {
		return properties{}, badProfile("Podpis ma %d elementów QualifyingProperties, wymagany jest jeden.",
			len(qualifying))
	}
	object := qualifying[0].Parent()
	if object == nil || !xmltree.Is(object, dsigNamespace, "Object") || object.Parent() != s.element {
		return properties{}, badProfile("Element QualifyingProperties nie leży w ds:Object podpisu.")
	}
	id := xmltree.Attribute(s.element, "Id")
	if id == "" || xmltree.Attribute(qualifying[0], "Target") != "#"+id {
		return properties{}, badProfile("Atrybut Target elementu QualifyingProperties nie wskazuje na podpis.")
	}
	parts, err := xmltree.Sequence(qualifying[0], xadesNamespace,
		xmltree.Item{Tag: "SignedProperties", Min: 1, Max: 1}, xmltree.Item{Tag: "UnsignedProperties", Max: 1})
	if err != nil {
		return properties{}, badProfile("Błąd walidacji XSD: %v.", err)
	}
	made := properties{element: parts["SignedProperties"][0]}
	return made, made.parse(s)
}

func (p *properties) parse(s *signature) *Error {
	parts, err := xmltree.Sequence(p.element, xadesNamespace,
		xmltree.Item{Tag: "SignedSignatureProperties", Min: 1, Max: 1}, xmltree.Item{Tag: "SignedDataObjectProperties",
			Max: 1})
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	for _, part := range parts["SignedDataObjectProperties"] {
		if refused := checkDataObjectFormats(s, part); refused != nil {
			return refused
		}
	}
	signed, err := xmltree.Sequence(parts["SignedSignatureProperties"][0], xadesNamespace,
		xmltree.Item{Tag: "SigningTime", Min: 1, Max: 1},
		xmltree.Item{Tag: "SigningCertificate", Max: 1}, xmltree.Item{Tag: "SigningCertificateV2", Max: 1},
		xmltree.Item{Tag: "SignaturePolicyIdentifier", Max: 1},
		xmltree.Item{Tag: "SignatureProductionPlace", Max: 1}, xmltree.Item{Tag: "SignatureProductionPlaceV2", Max: 1},
		xmltree.Item{Tag: "SignerRole", Max: 1}, xmltree.Item{Tag: "SignerRoleV2", Max: 1})
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	var refused *Error
	if p.signingTime, refused = parseTime(signed["SigningTime"][0]); refused != nil {
		return refused
	}
	return checkSigningCertificates(append(signed["SigningCertificate"], signed["SigningCertificateV2"]...), s.leaf)
}

// parseTime reads an xsd:dateTime. Without a zone it is UTC.
func parseTime(element *etree.Element) (time.Time, *Error) {
	text, err := xmltree.Text(element)
	if err != nil {
		return time.Time{}, badProfile("Błąd walidacji XSD: %v.", err)
	}
	text = strings.TrimSpace(text)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if parsed, err := time.Parse(layout, text); err == nil {
			return parsed, nil
		}
	}
	return time.Time{}, badProfile("Nieprawidłowy czas podpisu %q.", text)
}

// checkSigningCertificates requires at least one of the two forms, each with the signer's
// certificate first.
func checkSigningCertificates(forms []*etree.Element, leaf *x509.Certificate) *Error {
	if len(forms) == 0 {
		return badProfile("Brak elementu SigningCertificate albo SigningCertificateV2.")
	}
	for _, form := range forms {
		found, err := xmltree.Sequence(form, xadesNamespace, xmltree.Item{Tag: "Cert", Min: 1})
		if err != nil {
			return badProfile("Błąd walidacji XSD: %v.", err)
		}
		legacy := form.Tag == "SigningCertificate"
		if refused := checkCert(found["Cert"][0], legacy, leaf); refused != nil {
			return refused
		}
	}
	return nil
}

func checkCert(cert *etree.Element, legacy bool, leaf *x509.Certificate) *Error {
	serial := xmltree.Item{Tag: "IssuerSerialV2", Max: 1}
	if legacy {
		serial = xmltree.Item{Tag: "IssuerSerial", Min: 1, Max: 1}
	}
	parts, err := xmltree.Sequence(cert, xadesNamespace, xmltree.Item{Tag: "CertDigest", Min: 1, Max: 1}, serial)
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	pair, err := xmltree.Sequence(parts["CertDigest"][0], dsigNamespace,
		xmltree.Item{Tag: "DigestMethod", Min: 1, Max: 1}, xmltree.Item{Tag: "DigestValue", Min: 1, Max: 1})
	if err != nil {
		return badProfile("Błąd walidacji XSD: %v.", err)
	}
	hash, value, refused := digestOf(pair["DigestMethod"][0], pair["DigestValue"][0])
	if refused != nil {
		return refused
	}
	if subtle.ConstantTimeCompare(digest(hash, leaf.Raw), value) != 1 {
		return negative("Skrót w SigningCertificate nie odpowiada certyfikatowi z ds:KeyInfo.")
	}
	for _, element := range parts[serial.Tag] {
		if refused := checkSerial(element, legacy, leaf); refused != nil {
			return refused
		}
	}
	return nil
}

// checkSerial compares the serial number. It does not compare the issuer's name, because KSeF
// accepts any textual form of it.
func checkSerial(element *etree.Element, legacy bool, leaf *x509.Certificate) *Error {
	read := serialOfV2
	if legacy {
		read = serialOfLegacy
	}
	value, refused := read(element)
	if refused != nil {
		return refused
	}
	if value.Cmp(leaf.SerialNumber) != 0 {
		return negative("Numer seryjny w SigningCertificate nie odpowiada certyfikatowi z ds:KeyInfo.")
	}
	return nil
}

func serialOfLegacy(element *etree.Element) (*big.Int, *Error) {
	parts, err := xmltree.Sequence(element, dsigNamespace,
		xmltree.Item{Tag: "X509IssuerName", Min: 1, Max: 1}, xmltree.Item{Tag: "X509SerialNumber", Min: 1, Max: 1})
	if err != nil {
		return nil, badProfile("Błąd walidacji XSD: %v.", err)
	}
	text, err := xmltree.Text(parts["X509SerialNumber"][0])
	if err != nil {
		return nil, badProfile("Błąd walidacji XSD: %v.", err)
	}
	digits := strings.TrimSpace(text)
	value, ok := new(big.Int).SetString(digits[:min(len(digits), maxSerialDigits)], 10)
	if !ok {
		return nil, badProfile("Numer seryjny certyfikatu nie jest zapisany dziesiętnie.")
	}
	return value, nil
}

// serialOfV2 reads the IssuerSerial of RFC 5035 in base64.
func serialOfV2(element *etree.Element) (*big.Int, *Error) {
	text, err := xmltree.Text(element)
	if err != nil {
		return nil, badProfile("Błąd walidacji XSD: %v.", err)
	}
	var issuerSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	der, err := decodeBase64(text)
	if err == nil {
		_, err = asn1.Unmarshal(der, &issuerSerial)
	}
	if err != nil {
		return nil, badProfile("Element IssuerSerialV2 nie jest zapisany w DER i base64.")
	}
	return issuerSerial.Serial, nil
}

// checkDataObjectFormats requires that each xades:DataObjectFormat describes one of the references.
func checkDataObjectFormats(s *signature, element *etree.Element) *Error {
	for _, format := range xmltree.Find(element, xadesNamespace, "DataObjectFormat") {
		id, local := strings.CutPrefix(xmltree.Attribute(format, "ObjectReference"), "#")
		described := false
		for _, r := range s.references {
			described = described || (local && id != "" && r.id == id)
		}
		if !described {
			return badProfile("Atrybut ObjectReference elementu DataObjectFormat nie wskazuje na referencję podpisu.")
		}
	}
	return nil
}
