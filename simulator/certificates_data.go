// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

const oidUniqueIdentifier = "2.5.4.45"

// suffixOf is what KSeF's authority appends to the common name (ksef-api issue 378).
func suffixOf(kind string) string {
	if kind == store.TypeOffline {
		return " (offline)"
	}
	return " (uwierzytelnienie)"
}

// keyUsageOf is what certificates of a type are for (certyfikaty-KSeF.md).
func keyUsageOf(kind string) x509.KeyUsage {
	if kind == store.TypeOffline {
		return x509.KeyUsageContentCommitment
	}
	return x509.KeyUsageDigitalSignature
}

// enrollmentData is CertificateEnrollmentDataResponse: the subject that a request for a certificate
// must have.
type enrollmentData struct {
	CommonName             string `json:"commonName"`
	CountryName            string `json:"countryName"`
	GivenName              string `json:"givenName,omitempty"`
	Surname                string `json:"surname,omitempty"`
	SerialNumber           string `json:"serialNumber,omitempty"`
	UniqueIdentifier       string `json:"uniqueIdentifier,omitempty"`
	OrganizationName       string `json:"organizationName,omitempty"`
	OrganizationIdentifier string `json:"organizationIdentifier,omitempty"`
}

// enrollmentData is GET /certificates/enrollments/data.
func (s *Simulator) enrollmentData(req *request) response {
	if !mayEnroll(req.login) {
		return req.failed(&apiError{Code: 25001,
			Description: "Brak możliwości pobrania danych do CSR dla wykorzystanego sposobu uwierzytelnienia."})
	}
	return ok(enrollmentDataOf(req.login))
}

// mayEnroll tells whether a login is one that certificates can be asked for in: one with a
// signature. The subjects of KSeF's certificates are Nip, Pesel and Fingerprint in the OpenAPI, so
// a Peppol provider is taken to get none.
func mayEnroll(l *store.Login) bool {
	return l.Signed != nil && l.Identifier.Type != ksef.TypePeppolID
}

// enrollmentDataOf reads the subject of the certificate that the login was signed with, by the table
// of certyfikaty-KSeF.md. NIP and PESEL come in the form that they have in KSeF's certificates,
// whatever their prefix was (ksef-api issue 187). How KSeF names a subject without either is not
// documented: here the fingerprint is the unique identifier.
func enrollmentDataOf(l *store.Login) enrollmentData {
	attributes := subjectAttributes(l.Signed)
	person := isPerson(attributes)
	data := enrollmentData{
		CommonName: attributes[oidCommonName], CountryName: attributes[oidCountry],
		UniqueIdentifier: attributes[oidUniqueIdentifier],
	}
	if l.Issued != nil {
		data.CommonName = strings.TrimSuffix(data.CommonName, suffixOf(l.Issued.Kind))
	}
	if person {
		data.GivenName, data.Surname, data.SerialNumber = attributes[oidGivenName], attributes[oidSurname], attributes[oidSerialNumber]
	} else {
		data.OrganizationName, data.OrganizationIdentifier = attributes[oidOrganization], attributes[oidOrganizationIdentifier]
	}
	switch {
	case l.Identifier.Type == ksef.TypePESEL:
		data.SerialNumber = "PNOPL-" + l.Identifier.Value
	case l.Identifier.Type == ksef.TypeFingerprint:
		data.UniqueIdentifier = l.Identifier.Value
	case person:
		data.SerialNumber = "TINPL-" + l.Identifier.Value
	default:
		data.OrganizationIdentifier = "VATPL-" + l.Identifier.Value
	}
	return data
}

// attributes lists the subject in the order of KSeF's certificates, without what is empty.
func (d enrollmentData) attributes() []pkix.AttributeTypeAndValue {
	var list []pkix.AttributeTypeAndValue
	for _, attribute := range []struct {
		last  int
		value string
	}{
		{6, d.CountryName}, {97, d.OrganizationIdentifier}, {10, d.OrganizationName}, {4, d.Surname}, {42, d.GivenName},
		{5, d.SerialNumber}, {45, d.UniqueIdentifier}, {3, d.CommonName},
	} {
		if attribute.value != "" {
			oid := asn1.ObjectIdentifier{2, 5, 4, attribute.last}
			list = append(list, pkix.AttributeTypeAndValue{Type: oid, Value: attribute.value})
		}
	}
	return list
}

// matches tells whether a request names exactly this subject; the order of the attributes is free.
func (d enrollmentData) matches(csr *x509.CertificateRequest) bool {
	return slices.Equal(sortedTexts(d.attributes()), sortedTexts(csr.Subject.Names))
}

func sortedTexts(attributes []pkix.AttributeTypeAndValue) []string {
	var list []string
	for _, attribute := range attributes {
		list = append(list, fmt.Sprint(attribute.Type, "=", attribute.Value))
	}
	slices.Sort(list)
	return list
}
