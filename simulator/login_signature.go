// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/x509"
	"errors"
	"strconv"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/authrequest"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
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
	s.store.AddSigned(data)
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
	if _, valid := s.store.UseChallenge(challenge, req.now); !valid {
		return req.failed(invalidChallenge())
	}
	login.Chain = chain
	return s.startLogin(req, login)
}

// readSigned makes a login from a document whose signature holds. The caller holds the lock.
func (s *Simulator) readSigned(signed *xadesverify.Document) (*store.Login, string, *apiError) {
	document, err := authrequest.Read(signed.Content)
	if err != nil {
		return nil, "", &apiError{21401, "Dokument nie jest zgodny ze schemą (xsd).", []string{err.Error()}}
	}
	signedBy, refused := identify(signed.Certificate, document.SubjectType)
	if refused != nil {
		return nil, "", refused
	}
	issued, refused := s.ownCertificate(signed.Certificate)
	if refused != nil {
		return nil, "", refused
	}
	if issued != nil && (document.SubjectType == authrequest.BySubject || issued.Subject.Type == ksef.TypeFingerprint) {
		signedBy.identifier = issued.Subject
	}
	if !document.Context.Valid() {
		return nil, "", &apiError{21117, "Nieprawidłowy identyfikator podmiotu dla wskazanego typu kontekstu.",
			[]string{"Suma kontrolna identyfikatora " + document.Context.Value + " jest nieprawidłowa."}}
	}
	return &store.Login{
		Owner: store.Owner{Context: document.Context, Identifier: signedBy.identifier}, Method: signatureMethod(signedBy, issued),
		IPPolicy: document.IPPolicy, Signed: signed.Certificate, Issued: issued,
	}, document.Challenge, nil
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
func signatureFailure(l *store.Login, now time.Time) *store.StatusInfo {
	badCertificate := func(detail string) *store.StatusInfo {
		return &store.StatusInfo{Code: 460, Description: "Uwierzytelnianie zakończone niepowodzeniem z powodu błędu certyfikatu",
			Details: []string{detail}}
	}
	switch certificate := l.Signed; {
	case now.Before(certificate.NotBefore) || now.After(certificate.NotAfter):
		return badCertificate("Nieważny certyfikat")
	case l.Issued != nil && (now.Before(l.Issued.Accepted) || now.After(l.Issued.ValidTo)):
		return badCertificate("Nieważny certyfikat")
	case l.Issued != nil && !l.Issued.Revoked.IsZero():
		return badCertificate("Certyfikat odwołany")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return badCertificate("Niepoprawny certyfikat")
	case l.Chain && l.Issued == nil:
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
