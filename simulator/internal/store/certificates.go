// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"crypto/x509"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// The types of KSeF's certificates (KsefCertificateType).
const (
	TypeAuthentication = "Authentication"
	TypeOffline        = "Offline"
)

// The statuses of a certificate (CertificateListItemStatus).
const (
	CertificateActive  = "Active"
	CertificateBlocked = "Blocked"
	CertificateRevoked = "Revoked"
	CertificateExpired = "Expired"
)

// Enrollment is a request for a certificate. It belongs to the subject in every context.
type Enrollment struct {
	Reference   string
	Subject     ksef.Identifier
	Requested   time.Time
	Decided     time.Time    // when it stops being in progress
	Failure     *StatusInfo  // nil when it succeeds
	Certificate *Certificate // nil when it fails
}

// Status returns the status at a time.
func (e *Enrollment) Status(now time.Time) StatusInfo {
	switch {
	case now.Before(e.Decided):
		return StatusInfo{Code: 100, Description: "Wniosek przyjęty do realizacji"}
	case e.Failure != nil:
		return *e.Failure
	}
	return StatusInfo{Code: 200, Description: "Wniosek obsłużony (certyfikat wygenerowany)"}
}

// Issued returns the certificate of an enrollment that has succeeded by now, or nil.
func (e *Enrollment) Issued(now time.Time) *Certificate {
	if now.Before(e.Decided) {
		return nil
	}
	return e.Certificate
}

// Certificate is a certificate that KSeF has issued. Its status follows from the times.
type Certificate struct {
	Serial         string
	Name           string
	Kind           string
	CommonName     string // of the subject, without what the authority appends
	Subject        ksef.Identifier
	Requested      time.Time
	Accepted       time.Time // when logins with it are first accepted
	Leaf           *x509.Certificate
	ValidTo        time.Time // may be earlier than the certificate's own
	Revoked        time.Time // when it was revoked; zero if it was not
	RevocationEnds time.Time // when it stops being Blocked
	LastUse        time.Time
}

// Status returns the status at a time.
func (k *Certificate) Status(now time.Time) string {
	switch {
	case !k.Revoked.IsZero() && now.Before(k.RevocationEnds):
		return CertificateBlocked
	case !k.Revoked.IsZero():
		return CertificateRevoked
	case now.After(k.ValidTo):
		return CertificateExpired
	}
	return CertificateActive
}

// Certificates are all enrollments and their certificates.
type Certificates struct {
	ByReference map[string]*Enrollment
	BySubject   map[ksef.Identifier][]*Enrollment // per subject, oldest first
	All         []*Enrollment
	BySerial    map[string]*Enrollment     // by the serial number of the certificate
	KeyOwners   map[string]ksef.Identifier // the subject of each certified public key
}

// Add records an enrollment.
func (s *Certificates) Add(e *Enrollment) {
	s.ByReference[e.Reference] = e
	s.BySubject[e.Subject] = append(s.BySubject[e.Subject], e)
	s.All = append(s.All, e)
	if e.Certificate != nil {
		s.BySerial[e.Certificate.Serial] = e
		s.KeyOwners[string(e.Certificate.Leaf.RawSubjectPublicKeyInfo)] = e.Subject
	}
}

// Find returns a subject's certificate by its serial number, or nil when it is not issued by now.
func (s *Certificates) Find(serial string, subject ksef.Identifier, now time.Time) *Certificate {
	found := s.BySerial[serial]
	if found == nil || found.Subject != subject {
		return nil
	}
	return found.Issued(now)
}

func newCertificates() Certificates {
	return Certificates{
		ByReference: map[string]*Enrollment{},
		BySubject:   map[ksef.Identifier][]*Enrollment{},
		BySerial:    map[string]*Enrollment{},
		KeyOwners:   map[string]ksef.Identifier{},
	}
}
