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

// Bind returns the addresses to which a login with the challenge is bound: as BindTo says for those
// of config, as BindAlso for those of a role.
type Bind func(*client.Challenge) (xades.AllowedIPs, error)

// ToConfig binds logins to allowed_ips of config.
func ToConfig(allowed []string) Bind {
	return func(challenge *client.Challenge) (xades.AllowedIPs, error) { return BindTo(allowed, challenge) }
}

// ToRole binds logins to allowed_ips of a role and to the address of this node.
func ToRole(allowed []string) Bind {
	return func(challenge *client.Challenge) (xades.AllowedIPs, error) { return BindAlso(allowed, challenge) }
}

// NewSigner returns a Signer with the certificate and its key. subjectType is one of the xades
// package's; bind says to which addresses logins are bound.
func NewSigner(certificate *x509.Certificate, key crypto.Signer, subjectType string, bind Bind) (Signer, error) {
	signer, err := xades.NewSigner(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("the credential cannot sign: %w", err)
	}
	return &certificateSigner{signer: signer, subjectType: subjectType, bind: bind}, nil
}

type certificateSigner struct {
	signer      *xades.Signer
	subjectType string
	bind        Bind
}

// SignLogin implements Signer.
func (s *certificateSigner) SignLogin(challenge *client.Challenge, taxpayer client.ContextIdentifier, signingTime time.Time) ([]byte, error) {
	bound, err := s.bind(challenge)
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
