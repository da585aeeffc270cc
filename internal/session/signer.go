// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
)

// Signer signs logins.
type Signer interface {
	// SignLogin returns the signed AuthTokenRequest for the challenge and taxpayer.
	SignLogin(challenge *client.Challenge, taxpayer client.ContextIdentifier, signingTime time.Time) ([]byte, error)
}

// NewSigner returns a Signer with the certificate and its key. subjectType is one of the xades
// package's; logins are bound to the allowed addresses as BindTo says.
func NewSigner(certificate *x509.Certificate, key crypto.Signer, subjectType string, allowedIPs []string) (Signer, error) {
	signer, err := xades.NewSigner(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("the credential cannot sign: %w", err)
	}
	return &certificateSigner{signer: signer, subjectType: subjectType, allowedIPs: allowedIPs}, nil
}

type certificateSigner struct {
	signer      *xades.Signer
	subjectType string
	allowedIPs  []string
}

// SignLogin implements Signer.
func (s *certificateSigner) SignLogin(challenge *client.Challenge, taxpayer client.ContextIdentifier, signingTime time.Time) ([]byte, error) {
	bound, err := BindTo(s.allowedIPs, challenge)
	if err != nil {
		return nil, err
	}
	return s.signer.Sign(xades.Request{
		Challenge:             challenge.Challenge,
		Context:               xades.Context{Type: string(taxpayer.Type), Value: taxpayer.Value},
		SubjectIdentifierType: s.subjectType,
		AllowedIPs:            bound,
	}, signingTime)
}
