// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

// shortenCertificate is PUT /testdata/certificates/{serialNumber}: KSeF holds the certificate for
// expired from then on, while the certificate itself goes on saying what it said.
func (s *Simulator) shortenCertificate(req *request) response {
	serial := req.PathValue("serialNumber")
	if !serialPattern.MatchString(serial) {
		return req.failed(badSerial())
	}
	var body struct {
		ValidTo *string `json:"validTo"`
	}
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	var wrong fieldErrors
	validTo := wrong.moment("validTo", body.ValidTo)
	if body.ValidTo == nil {
		wrong.add("Pole validTo jest wymagane.")
	}
	if refused := wrong.refusal(); refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.store.Certificates.Find(serial, req.login.Identifier, req.now)
	switch {
	case found == nil:
		return req.failed(unknownCertificate())
	case validTo.After(found.ValidTo):
		return req.failed(badInput("Pole validTo nie może być późniejsze niż obecna data ważności certyfikatu."))
	}
	found.ValidTo = validTo
	return done()
}
