// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// authorityYears is how long KSeF's own authority is good.
const authorityYears = 50

// certificateYears is how long KSeF's certificates are good, unless told otherwise.
const certificateYears = 2

// Authority is KSeF's own: it issues the certificates that subjects ask for.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes an authority with the name that the one of KSeF's TEST environment
// has.
func NewAuthority(now time.Time) (Authority, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject: pkix.Name{
			Country: []string{"PL"}, Organization: []string{"Ministerstwo Finansów"},
			OrganizationalUnit: []string{"Krajowa Administracja Skarbowa"}, CommonName: "TEST CCK KSeF",
		},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certificate, key, err := signCertificate(template, nil, nil)
	if err != nil {
		return Authority{}, fmt.Errorf("make the authority of KSeF's certificates: %w", err)
	}
	return Authority{certificate, key}, nil
}

// Issue makes a certificate. One of the type Authentication is for digitalSignature, one of the
// type Offline for nonRepudiation (certyfikaty-KSeF.md). It is good for the lifetime, two years
// when that is zero.
func (a Authority) Issue(usage x509.KeyUsage, subject []pkix.AttributeTypeAndValue, key any,
	from time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	to := from.AddDate(certificateYears, 0, 0)
	if lifetime > 0 {
		to = from.Add(lifetime)
	}
	octets := make([]byte, 8)
	_, _ = rand.Read(octets) // crypto/rand.Read never returns an error
	octets[0] = 1            // so that the number is positive and has 16 digits, as real ones
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(octets), Subject: pkix.Name{ExtraNames: subject},
		NotBefore: from, NotAfter: to, KeyUsage: usage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// SerialNumber writes the number of a certificate of this authority as 16 upper-case hexadecimal
// digits.
func SerialNumber(certificate *x509.Certificate) string {
	return strings.ToUpper(hex.EncodeToString(certificate.SerialNumber.FillBytes(make([]byte, 8))))
}

// Issued tells whether a certificate names this authority as its issuer, and whether it is right.
func (a Authority) Issued(leaf *x509.Certificate) (named, issued bool) {
	named = bytes.Equal(leaf.RawIssuer, a.certificate.RawSubject)
	return named, named && leaf.CheckSignatureFrom(a.certificate) == nil
}

// NotAfter is when the authority's certificate expires.
func (a Authority) NotAfter() time.Time { return a.certificate.NotAfter }

// ownCertificate returns what is known of a certificate that KSeF has issued; nil for one that says
// it has another issuer. One under KSeF's name that this simulator has not made is of another
// environment, and refused. So is one of the type Offline, which is not for logins; KSeF's code for
// that is not documented. The caller holds the lock.
func (s *Simulator) ownCertificate(leaf *x509.Certificate) (*Certificate, *apiError) {
	named, issued := s.authority.Issued(leaf)
	switch {
	case !named:
		return nil, nil
	case !issued:
		return nil, badCertificate("Certyfikat KSeF pochodzi z innego środowiska.")
	}
	known := s.store.Certificates.BySerial[SerialNumber(leaf)]
	switch {
	case known == nil:
		return nil, badCertificate("Certyfikat KSeF jest nieznany.")
	case known.Certificate.Kind == TypeOffline:
		return nil, badCertificate("Certyfikat KSeF typu Offline nie służy do uwierzytelnienia.")
	}
	return known.Certificate, nil
}
