// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"
	"time"
)

// The types of KSeF's certificates (KsefCertificateType).
const (
	typeAuthentication = "Authentication"
	typeOffline        = "Offline"
)

// The statuses of a certificate (CertificateListItemStatus).
const (
	certificateActive  = "Active"
	certificateBlocked = "Blocked"
	certificateRevoked = "Revoked"
	certificateExpired = "Expired"
)

func (s *Simulator) certificateEndpoints() []endpoint {
	access := []string{accessJWT}
	return []endpoint{
		{name: "GET /certificates/limits", bearer: access, serve: s.certificateLimits},
		{name: "GET /certificates/enrollments/data", bearer: access, serve: s.enrollmentData},
		{name: enrollEndpoint, bearer: access, serve: s.enroll},
		{name: "GET /certificates/enrollments/{referenceNumber}", bearer: access, serve: s.enrollmentStatus},
		{name: "POST /certificates/retrieve", bearer: access, serve: s.retrieveCertificates},
		{name: "POST /certificates/query", bearer: access, serve: s.queryCertificates},
		{name: "POST /certificates/{certificateSerialNumber}/revoke", bearer: access, serve: s.revokeCertificate},
	}
}

// enrollment is a request for a certificate. It belongs to the subject, whatever the context it was
// made in.
type enrollment struct {
	reference   string
	subject     Identifier
	requested   time.Time
	decided     time.Time        // when it stops being in progress
	failure     *statusInfo      // nil when it succeeds
	certificate *ksefCertificate // nil when it fails
}

func (e *enrollment) status(now time.Time) statusInfo {
	switch {
	case now.Before(e.decided):
		return statusInfo{Code: 100, Description: "Wniosek przyjęty do realizacji"}
	case e.failure != nil:
		return *e.failure
	}
	return statusInfo{Code: 200, Description: "Wniosek obsłużony (certyfikat wygenerowany)"}
}

// issued returns the certificate of an enrollment that has succeeded by now; nil before, and for
// all others.
func (e *enrollment) issued(now time.Time) *ksefCertificate {
	if now.Before(e.decided) {
		return nil
	}
	return e.certificate
}

// ksefCertificate is a certificate that KSeF has issued. Its status follows from the times.
type ksefCertificate struct {
	serial         string
	name           string
	kind           string
	commonName     string // of the subject, without what the authority appends
	subject        Identifier
	requested      time.Time
	accepted       time.Time // when logins with it begin to be accepted
	leaf           *x509.Certificate
	validTo        time.Time // the end that the certificate names, or an earlier one
	revoked        time.Time // when it was revoked; zero if it was not
	RevocationEnds time.Time // when it stops being Blocked
	lastUse        time.Time
}

func (k *ksefCertificate) status(now time.Time) string {
	switch {
	case !k.revoked.IsZero() && now.Before(k.RevocationEnds):
		return certificateBlocked
	case !k.revoked.IsZero():
		return certificateRevoked
	case now.After(k.validTo):
		return certificateExpired
	}
	return certificateActive
}

// certificateStore is what KSeF remembers of certificates.
type Certificates struct {
	ByReference map[string]*enrollment
	BySubject   map[Identifier][]*enrollment // per subject, oldest first
	All         []*enrollment
	BySerial    map[string]*enrollment // by the serial number of the certificate
	keys        map[string]Identifier  // whose a certified public key is
}

func newCertificateStore() Certificates {
	return Certificates{
		ByReference: map[string]*enrollment{},
		BySubject:   map[Identifier][]*enrollment{},
		BySerial:    map[string]*enrollment{},
		keys:        map[string]Identifier{},
	}
}

func (s *Certificates) add(e *enrollment) {
	s.ByReference[e.reference] = e
	s.BySubject[e.subject] = append(s.BySubject[e.subject], e)
	s.All = append(s.All, e)
	if e.certificate != nil {
		s.BySerial[e.certificate.serial] = e
		s.keys[string(e.certificate.leaf.RawSubjectPublicKeyInfo)] = e.subject
	}
}

// find returns the certificate of a subject by its serial number; nil when there is none by now.
func (s *Certificates) find(serial string, subject Identifier, now time.Time) *ksefCertificate {
	found := s.BySerial[serial]
	if found == nil || found.subject != subject {
		return nil
	}
	return found.issued(now)
}
