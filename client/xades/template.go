// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import "time"

// Every signed part is written in its exclusive canonical form, also within the document:
// namespaces are declared where exc-c14n declares them, attributes are in its order, no element is
// abbreviated. So signing only hashes text, and the hashed text is sent.

const (
	dsigNS  = "http://www.w3.org/2000/09/xmldsig#"
	xadesNS = "http://uri.etsi.org/01903/v1.3.2#"
	excC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"

	methodRSA   = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	methodECDSA = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
	sha256URI   = "http://www.w3.org/2001/04/xmlenc#sha256"

	// propertiesType has no version, unlike the namespace (ETSI EN 319 132-1, 4.3.1).
	propertiesType = "http://uri.etsi.org/01903#SignedProperties"
)

// signedInfo references what is signed: the document without the signature, and the signed
// properties. The digests are base64.
func signedInfo(id, method, document, properties string) string {
	return `<ds:SignedInfo xmlns:ds="` + dsigNS + `">` +
		`<ds:CanonicalizationMethod Algorithm="` + excC14N + `"></ds:CanonicalizationMethod>` +
		`<ds:SignatureMethod Algorithm="` + method + `"></ds:SignatureMethod>` +
		`<ds:Reference Id="Reference-` + id + `" URI=""><ds:Transforms>` +
		`<ds:Transform Algorithm="` + dsigNS + `enveloped-signature"></ds:Transform>` +
		`<ds:Transform Algorithm="` + excC14N + `"></ds:Transform></ds:Transforms>` +
		`<ds:DigestMethod Algorithm="` + sha256URI + `"></ds:DigestMethod>` +
		`<ds:DigestValue>` + document + `</ds:DigestValue></ds:Reference>` +
		`<ds:Reference Type="` + propertiesType + `" URI="#SignedProperties-` + id + `"><ds:Transforms>` +
		`<ds:Transform Algorithm="` + excC14N + `"></ds:Transform></ds:Transforms>` +
		`<ds:DigestMethod Algorithm="` + sha256URI + `"></ds:DigestMethod>` +
		`<ds:DigestValue>` + properties + `</ds:DigestValue></ds:Reference>` +
		`</ds:SignedInfo>`
}

// signedProperties states the time and the certificate of the signature over the document with
// Reference-id.
func signedProperties(id string, signingTime time.Time, certificate string) string {
	return `<xades:SignedProperties xmlns:xades="` + xadesNS + `" Id="SignedProperties-` + id + `">` +
		`<xades:SignedSignatureProperties>` +
		`<xades:SigningTime>` + signingTime.UTC().Format(time.RFC3339) + `</xades:SigningTime>` + certificate +
		`</xades:SignedSignatureProperties>` +
		`<xades:SignedDataObjectProperties><xades:DataObjectFormat ObjectReference="#Reference-` + id + `">` +
		`<xades:MimeType>text/xml</xades:MimeType></xades:DataObjectFormat></xades:SignedDataObjectProperties>` +
		`</xades:SignedProperties>`
}

// signingCertificate binds the certificate to the signature, with the older of XAdES's two
// elements: all programs known to work with KSeF send it.
func signingCertificate(digest, issuer, serial string) string {
	return `<xades:SigningCertificate><xades:Cert><xades:CertDigest>` +
		`<ds:DigestMethod xmlns:ds="` + dsigNS + `" Algorithm="` + sha256URI + `"></ds:DigestMethod>` +
		`<ds:DigestValue xmlns:ds="` + dsigNS + `">` + digest + `</ds:DigestValue></xades:CertDigest><xades:IssuerSerial>` +
		`<ds:X509IssuerName xmlns:ds="` + dsigNS + `">` + escapeText(issuer) + `</ds:X509IssuerName>` +
		`<ds:X509SerialNumber xmlns:ds="` + dsigNS + `">` + serial + `</ds:X509SerialNumber>` +
		`</xades:IssuerSerial></xades:Cert></xades:SigningCertificate>`
}

func keyInfo(certificate string) string {
	return `<ds:KeyInfo><ds:X509Data><ds:X509Certificate>` + certificate + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo>`
}

// signature returns the element that is last in the document's root.
func signature(id, info, value, keyInfo, properties string) string {
	return `<ds:Signature xmlns:ds="` + dsigNS + `" Id="Signature-` + id + `">` + info +
		`<ds:SignatureValue>` + value + `</ds:SignatureValue>` + keyInfo +
		`<ds:Object><xades:QualifyingProperties xmlns:xades="` + xadesNS + `" Target="#Signature-` + id + `">` + properties +
		`</xades:QualifyingProperties></ds:Object></ds:Signature>`
}
