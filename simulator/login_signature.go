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

// loginBySignature is POST /auth/xades-signature. The document is checked in this order: signature, schema, certificate,
// context, challenge. Only a document that is right in all else spends its challenge.
func (s *Simulator) loginBySignature(c *call) reply {
	if !c.hasContentType("application/xml") {
		return c.unsupportedMediaType("application/xml")
	}
	chain, err := strconv.ParseBool(valueOr(c.URL.Query().Get("verifyCertificateChain"), "false"))
	if err != nil {
		return c.failed(badInput("Parametr verifyCertificateChain musi mieć wartość true albo false."))
	}
	data, refused := c.body()
	if refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	s.store.addSigned(data)
	s.mu.Unlock()
	login, challenge, refused := s.readSigned(data, c.now, chain)
	if refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, refused := s.store.useChallenge(challenge, c.now); refused != nil {
		return c.failed(refused)
	}
	return s.begin(c, login)
}

// readSigned makes a login from a signed document, all but its times.
func (s *Simulator) readSigned(data []byte, now time.Time, chain bool) (*login, string, *apiError) {
	document, err := xadesverify.Verify(data, now, s.options.SigningTimeTolerance)
	if err != nil {
		return nil, "", signatureError(err)
	}
	request, refused := newAuthRequest(document.Content)
	if refused != nil {
		return nil, "", refused
	}
	who, refused := identify(document.Certificate, request.subjectType)
	if refused != nil {
		return nil, "", refused
	}
	if !request.context.valid() {
		return nil, "", &apiError{21117, "Nieprawidłowy identyfikator podmiotu dla wskazanego typu kontekstu.",
			[]string{"Suma kontrolna identyfikatora " + request.context.Value + " jest nieprawidłowa."}}
	}
	permissions := s.options.permissionsIn(request.context, who)
	return &login{
		owner: owner{context: request.context, identifier: who.identifier}, method: signatureMethod(who),
		permissions: permissions, policy: request.policy,
		failure: loginFailure(document.Certificate, permissions, now, chain),
	}, request.challenge, nil
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

// loginFailure is how a login with a well signed document ends; nil when it succeeds. No certificate has a chain that the
// simulator trusts, so a login that asks for the chain to be verified fails.
func loginFailure(certificate *x509.Certificate, permissions []string, now time.Time, chain bool) *statusInfo {
	badCertificate := func(detail string) *statusInfo {
		return &statusInfo{460, "Uwierzytelnianie zakończone niepowodzeniem z powodu błędu certyfikatu", []string{detail}}
	}
	switch {
	case now.Before(certificate.NotBefore) || now.After(certificate.NotAfter):
		return badCertificate("Nieważny certyfikat")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return badCertificate("Niepoprawny certyfikat")
	case chain:
		return badCertificate("Niezaufany łańcuch certyfikatów")
	case len(permissions) == 0:
		return &statusInfo{415, "Uwierzytelnianie zakończone niepowodzeniem", []string{"Brak przypisanych uprawnień"}}
	}
	return nil
}

func valueOr(value, standard string) string {
	if value == "" {
		return standard
	}
	return value
}
