// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import "slices"

// revokeCertificate is POST /certificates/{certificateSerialNumber}/revoke. Sessions opened with the certificate go on
// (ksef-api issue 424). Certificates of another identifier, which KSeF lets revoke where a NIP and a PESEL are linked, are
// not known here.
func (s *Simulator) revokeCertificate(c *call) reply {
	if c.login.signed == nil {
		return c.methodNotAllowed()
	}
	serial := c.PathValue("certificateSerialNumber")
	if !serialPattern.MatchString(serial) {
		return c.failed(badSerial())
	}
	var request struct {
		Reason *string `json:"revocationReason"`
	}
	if refused := c.decodeOptional(&request); refused != nil {
		return c.failed(refused)
	}
	if request.Reason != nil && !slices.Contains([]string{"Unspecified", "Superseded", "KeyCompromise"}, *request.Reason) {
		return c.failed(badInput("Powód unieważnienia %q jest nieznany.", *request.Reason))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.certificates.find(serial, c.login.identifier, c.now)
	switch {
	case found == nil:
		return c.failed(unknownCertificate())
	case found.status(c.now) != certificateActive:
		return c.failed(&apiError{Code: 25009, Description: "Nie można odwołać wskazanego certyfikatu, ponieważ jest już odwołany, zablokowany lub nieważny."})
	}
	found.revoked, found.dead = c.now, c.now.Add(s.options.RevocationDelay)
	return noContent()
}

func unknownCertificate() *apiError {
	return &apiError{Code: 25008, Description: "Certyfikat o podanym numerze seryjnym nie istnieje."}
}
