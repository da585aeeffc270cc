// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"

	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// revokeCertificate is POST /certificates/{certificateSerialNumber}/revoke. Sessions opened with
// the certificate go on (ksef-api issue 424). Certificates of another identifier, which KSeF lets
// revoke where a NIP and a PESEL are linked, are not known here.
func (s *Simulator) revokeCertificate(req *request) response {
	if req.login.Signed == nil {
		return req.methodNotAllowed()
	}
	serial := req.PathValue("certificateSerialNumber")
	if !serialPattern.MatchString(serial) {
		return req.failed(badSerial())
	}
	var body struct {
		Reason *string `json:"revocationReason"`
	}
	if refused := req.decodeOptional(&body); refused != nil {
		return req.failed(refused)
	}
	if body.Reason != nil && !slices.Contains([]string{"Unspecified", "Superseded", "KeyCompromise"}, *body.Reason) {
		return req.failed(badInput("Powód unieważnienia %q jest nieznany.", *body.Reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Certificates.Find(serial, req.login.Identifier, req.now)
	switch {
	case found == nil:
		return req.failed(unknownCertificate())
	case found.Status(req.now) != store.CertificateActive:
		return req.failed(&apiError{Code: 25009,
			Description: "Nie można odwołać wskazanego certyfikatu, ponieważ jest już odwołany, zablokowany lub nieważny."})
	}
	found.Revoked, found.RevocationEnds = req.now, req.now.Add(s.options.RevocationDelay)
	return noContent()
}

func unknownCertificate() *apiError {
	return &apiError{Code: 25008, Description: "Certyfikat o podanym numerze seryjnym nie istnieje."}
}
