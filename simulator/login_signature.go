// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"
	"errors"
	"strconv"
	"time"

	"vault-plugin-secrets-ksef/simulator/xadesverify"
)

// loginBySignature is POST /auth/xades-signature. The document is checked in this order: signature,
// schema, certificate, context, challenge. Only a document that is right in all else spends its
// challenge.
func (s *Simulator) loginBySignature(req *request) response {
	if !req.hasContentType("application/xml") {
		return req.unsupportedMediaType("application/xml")
	}
	chain, err := strconv.ParseBool(valueOr(req.URL.Query().Get("verifyCertificateChain"), "false"))
	if err != nil {
		return req.failed(badInput("Parametr verifyCertificateChain musi mieć wartość true albo false."))
	}
	data, refused := req.body()
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	s.store.addSigned(data)
	s.mu.Unlock()
	signed, err := xadesverify.Verify(data, req.now, s.options.SigningTimeTolerance)
	if err != nil {
		return req.failed(signatureError(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	login, challenge, refused := s.readSigned(signed)
	if refused != nil {
		return req.failed(refused)
	}
	if _, valid := s.store.useChallenge(challenge, req.now); !valid {
		return req.failed(invalidChallenge())
	}
	login.chain = chain
	return s.startLogin(req, login)
}

// readSigned makes a login from a document whose signature holds. The caller holds the lock.
func (s *Simulator) readSigned(signed *xadesverify.Document) (*login, string, *apiError) {
	document, err := newAuthRequest(signed.Content)
	if err != nil {
		return nil, "", &apiError{21401, "Dokument nie jest zgodny ze schemą (xsd).", []string{err.Error()}}
	}
	signedBy, refused := identify(signed.Certificate, document.subjectType)
	if refused != nil {
		return nil, "", refused
	}
	issued, refused := s.ownCertificate(signed.Certificate)
	if refused != nil {
		return nil, "", refused
	}
	if issued != nil && (document.subjectType == bySubject || issued.subject.Type == TypeFingerprint) {
		signedBy.identifier = issued.subject
	}
	if !document.context.valid() {
		return nil, "", &apiError{21117, "Nieprawidłowy identyfikator podmiotu dla wskazanego typu kontekstu.",
			[]string{"Suma kontrolna identyfikatora " + document.context.Value + " jest nieprawidłowa."}}
	}
	return &login{
		owner: owner{context: document.context, identifier: signedBy.identifier}, method: signatureMethod(signedBy, issued),
		ipPolicy: document.ipPolicy, signed: signed.Certificate, issued: issued,
	}, document.challenge, nil
}

// signatureError gives a refusal of the verifier the description that the OpenAPI has for its code.
func signatureError(err error) *apiError {
	var refused *xadesverify.Error
	if !errors.As(err, &refused) {
		return &apiError{Code: xadesverify.CodeInvalidSignature, Description: "Nieprawidłowy podpis."}
	}
	descriptions := map[int]string{
		xadesverify.CodeUnreadable:       "Nieczytelna treść.",
		xadesverify.CodeEncoding:         "Nieprawidłowe kodowanie znaków.",
		xadesverify.CodeNotXML:           "Nieprawidłowy dokument.",
		xadesverify.CodeNoSignature:      "Brak podpisu.",
		xadesverify.CodeManySignatures:   "Przekroczona liczba dozwolonych podpisów.",
		xadesverify.CodeInvalidSignature: "Nieprawidłowy podpis.",
		xadesverify.CodeCertificate:      "Nieprawidłowy certyfikat.",
	}
	return &apiError{refused.Code, descriptions[refused.Code], refused.Details}
}

// signatureFailure is how a login with a well signed document ends; nil when it succeeds. Only the
// chains of KSeF's own certificates are trusted, so a login with another that asks for the chain to
// be verified fails.
func signatureFailure(l *login, now time.Time) *statusInfo {
	badCertificate := func(detail string) *statusInfo {
		return &statusInfo{460, "Uwierzytelnianie zakończone niepowodzeniem z powodu błędu certyfikatu",
			[]string{detail}}
	}
	switch certificate := l.signed; {
	case now.Before(certificate.NotBefore) || now.After(certificate.NotAfter):
		return badCertificate("Nieważny certyfikat")
	case l.issued != nil && (now.Before(l.issued.accepted) || now.After(l.issued.validTo)):
		return badCertificate("Nieważny certyfikat")
	case l.issued != nil && !l.issued.revoked.IsZero():
		return badCertificate("Certyfikat odwołany")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return badCertificate("Niepoprawny certyfikat")
	case l.chain && l.issued == nil:
		return badCertificate("Niezaufany łańcuch certyfikatów")
	}
	return nil
}

func valueOr(value, standard string) string {
	if value == "" {
		return standard
	}
	return value
}
