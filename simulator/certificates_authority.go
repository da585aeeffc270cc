// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"

	"vault-plugin-secrets-ksef/simulator/internal/ca"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// ownCertificate returns what is known of a certificate that KSeF has issued; nil for one that says
// it has another issuer. One under KSeF's name that this simulator has not made is of another
// environment, and refused. So is one of the type Offline, which is not for logins; KSeF's code for
// that is not documented. The caller holds the lock.
func (s *Simulator) ownCertificate(leaf *x509.Certificate) (*store.Certificate, *apiError) {
	named, issued := s.authority.Issued(leaf)
	switch {
	case !named:
		return nil, nil
	case !issued:
		return nil, badCertificate("Certyfikat KSeF pochodzi z innego środowiska.")
	}
	known := s.store.Certificates.BySerial[ca.SerialNumber(leaf)]
	switch {
	case known == nil:
		return nil, badCertificate("Certyfikat KSeF jest nieznany.")
	case known.Certificate.Kind == store.TypeOffline:
		return nil, badCertificate("Certyfikat KSeF typu Offline nie służy do uwierzytelnienia.")
	}
	return known.Certificate, nil
}
