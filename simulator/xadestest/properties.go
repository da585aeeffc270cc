// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xadestest

import (
	"encoding/asn1"
	"math/big"
	"time"
)

// qualifying writes the xades:QualifyingProperties as in the document.
func (r Request) qualifying(w writer) string {
	return `<xades:QualifyingProperties xmlns:xades="` + XAdES + `" Target="#Signature">` + r.properties(w) +
		`</xades:QualifyingProperties>`
}

func (r Request) properties(w writer) string {
	signature := w.xades(false, "SigningTime", "", r.SigningTime.UTC().Format(time.RFC3339)) + r.signingCertificate(w)
	content := w.xades(false, "SignedSignatureProperties", "", signature)
	if r.Layout.Formats {
		format := w.xades(false, "DataObjectFormat", ` ObjectReference="#ref-1"`,
			w.xades(false, "MimeType", "", "text/xml"))
		content += w.xades(false, "SignedDataObjectProperties", "", format)
	}
	properties := w.xades(true, "SignedProperties", ` Id="SignedProperties"`, content)
	if r.EditProperties != nil {
		return r.EditProperties(properties)
	}
	return properties
}

func (r Request) signingCertificate(w writer) string {
	pair := w.ds(true, "DigestMethod", algorithm(r.digestMethod()), "") +
		w.ds(true, "DigestValue", "", r.digest(string(r.Certificate.Raw)))
	content := w.xades(false, "CertDigest", "", pair)
	if r.Layout.V2 {
		content += w.xades(false, "IssuerSerialV2", "", encode(r.issuerSerial()))
		return w.xades(false, "SigningCertificateV2", "", w.xades(false, "Cert", "", content))
	}
	issuer := w.ds(true, "X509IssuerName", "", "CN=Testowa") +
		w.ds(true, "X509SerialNumber", "", r.Certificate.SerialNumber.String())
	content += w.xades(false, "IssuerSerial", "", issuer)
	return w.xades(false, "SigningCertificate", "", w.xades(false, "Cert", "", content))
}

// issuerSerial is the IssuerSerial of RFC 5035: the name of the issuer as a directoryName, and the
// serial number.
func (r Request) issuerSerial() []byte {
	name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: r.Certificate.RawIssuer}
	der, err := asn1.Marshal(struct {
		Issuer []asn1.RawValue
		Serial *big.Int
	}{[]asn1.RawValue{name}, r.Certificate.SerialNumber})
	if err != nil {
		panic("a certificate's issuer and serial number cannot fail to marshal: " + err.Error())
	}
	return der
}
