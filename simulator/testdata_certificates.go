// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

// shortenCertificate is PUT /testdata/certificates/{serialNumber}: KSeF holds the certificate for
// expired from then on, while the certificate itself goes on saying what it said.
func (s *Simulator) shortenCertificate(c *call) reply {
	serial := c.PathValue("serialNumber")
	if !serialPattern.MatchString(serial) {
		return c.failed(badSerial())
	}
	var request struct {
		ValidTo *string `json:"validTo"`
	}
	if refused := c.readJSON(&request); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	validTo := wrong.moment("validTo", request.ValidTo)
	if request.ValidTo == nil {
		wrong.add("Pole validTo jest wymagane.")
	}
	if refused := wrong.refusal(); refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.certificates.find(serial, c.login.identifier, c.now)
	switch {
	case found == nil:
		return c.failed(unknownCertificate())
	case validTo.After(found.validTo):
		return c.failed(badInput("Pole validTo nie może być późniejsze niż obecna data ważności certyfikatu."))
	}
	found.validTo = validTo
	return done()
}
