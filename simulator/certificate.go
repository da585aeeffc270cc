// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ca"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// CertificateOptions describe a test certificate.
type CertificateOptions struct {
	// NIP makes the seal of a company (organizationIdentifier VATPL-<NIP>), or with Person the
	// certificate of a person who has a NIP (serialNumber TINPL-<NIP>). The checksum is not
	// checked, so that tests can use invalid numbers.
	NIP string
	// PESEL makes the certificate of a person (serialNumber PNOPL-<PESEL>). Without NIP and PESEL
	// the certificate names a person without an identifier, who logs in by fingerprint only.
	PESEL string
	// PeppolID makes the seal of a Peppol provider: organizationIdentifier and CN are the
	// identifier, as in the official Java client's tests.
	PeppolID string
	// Person makes the certificate of a person who has the NIP.
	Person bool
	// Subject, when not nil, is the whole subject. The four above must be empty then.
	Subject *pkix.Name
	// Key is "ec" (P-256) or "rsa" (2048 bits); "" is "ec".
	Key string
	// NotBefore is a minute ago when zero, NotAfter two years after NotBefore.
	NotBefore, NotAfter time.Time
	// KeyUsage is digitalSignature when zero.
	KeyUsage x509.KeyUsage
}

// NewCertificate makes a self-signed certificate of a kind that KSeF's TEST environment accepts,
// and its key (PKCS#8), both as PEM.
func NewCertificate(options CertificateOptions) (certPEM, keyPEM []byte, err error) {
	subject, err := options.subject()
	if err != nil {
		return nil, nil, err
	}
	key, err := ca.NewKey(options.Key)
	if err != nil {
		return nil, nil, err
	}
	template := options.template()
	template.Subject = subject
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126)); err != nil {
		return nil, nil, fmt.Errorf("serial number: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("create the certificate: %w", err)
	}
	return encodePair(der, key)
}

func (o CertificateOptions) template() *x509.Certificate {
	template := &x509.Certificate{NotBefore: o.NotBefore, NotAfter: o.NotAfter, KeyUsage: o.KeyUsage}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Minute)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = template.NotBefore.AddDate(2, 0, 0)
	}
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	return template
}

func (o CertificateOptions) subject() (pkix.Name, error) {
	switch {
	case o.Subject != nil && (o.NIP != "" || o.PESEL != "" || o.PeppolID != "" || o.Person):
		return pkix.Name{}, errors.New("a Subject stands alone: leave NIP, PESEL, PeppolID and Person empty with it")
	case o.Subject != nil:
		return *o.Subject, nil
	case o.PeppolID != "":
		return o.peppolName()
	case o.NIP != "" && o.PESEL != "":
		return pkix.Name{}, errors.New("NIP and PESEL exclude each other: give one of them")
	case o.NIP != "" && !regexp.MustCompile(`^\d{10}$`).MatchString(o.NIP):
		return pkix.Name{}, fmt.Errorf("NIP %q is not valid: it must have 10 digits", o.NIP)
	case o.PESEL != "" && !regexp.MustCompile(`^\d{11}$`).MatchString(o.PESEL):
		return pkix.Name{}, fmt.Errorf("PESEL %q is not valid: it must have 11 digits", o.PESEL)
	case o.NIP != "" && !o.Person:
		return sealName(o.NIP), nil
	case o.NIP != "":
		return personName("TINPL-" + o.NIP), nil
	case o.PESEL != "":
		return personName("PNOPL-" + o.PESEL), nil
	}
	return personName(""), nil
}

func (o CertificateOptions) peppolName() (pkix.Name, error) {
	switch {
	case o.NIP != "" || o.PESEL != "" || o.Person:
		return pkix.Name{}, errors.New("a PeppolID stands alone: leave NIP, PESEL and Person empty with it")
	case !peppolID.MatchString(o.PeppolID):
		return pkix.Name{}, fmt.Errorf("the Peppol identifier %q is not valid: "+
			"it must be P, two capital letters and six digits", o.PeppolID)
	}
	return organizationName(o.PeppolID, o.PeppolID), nil
}

func sealName(nip string) pkix.Name {
	return organizationName("Testowa Sp. z o.o.", "VATPL-"+nip)
}

func organizationName(commonName, identifier string) pkix.Name {
	name := pkix.Name{Country: []string{"PL"}, Organization: []string{"Testowa Sp. z o.o."}, CommonName: commonName}
	name.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 97}, Value: identifier}}
	return name
}

func personName(serialNumber string) pkix.Name {
	return pkix.Name{
		Country: []string{"PL"}, CommonName: "Jan Testowy", SerialNumber: serialNumber,
		ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{2, 5, 4, 42}, Value: "Jan"},
			{Type: asn1.ObjectIdentifier{2, 5, 4, 4}, Value: "Testowy"},
		},
	}
}

func encodePair(der []byte, key crypto.Signer) (certPEM, keyPEM []byte, err error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the private key: %w", err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return certPEM, keyPEM, nil
}

// NewServerCertificate makes a certificate authority and a server certificate under it for the
// given host names and IP addresses, both valid for a year. Clients must trust caPEM. The
// authority's key is discarded.
func NewServerCertificate(hosts ...string) (caPEM []byte, server tls.Certificate, err error) {
	return ca.NewServerCertificate(hosts...)
}

// RandomNIP returns a random valid NIP. It may belong to a company: use it on test systems only.
func RandomNIP() (string, error) {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000))
		if err != nil {
			return "", fmt.Errorf("random number: %w", err)
		}
		nine := fmt.Sprintf("%09d", n)
		if nip := fmt.Sprint(nine, ksef.NIPCheckDigit(nine)); ksef.ValidNIP(nip) {
			return nip, nil
		}
	}
}
