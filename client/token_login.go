// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"

	"vault-plugin-secrets-ksef/client/xades"
)

// TokenLogin is a login with a KSeF token.
type TokenLogin struct {
	// Taxpayer is whose invoices the session is about. KSeF refuses a token of another.
	Taxpayer ContextIdentifier
	// Token is the text of the KSeF token.
	Token Secret
	// AllowedIPs returns the addresses from which KSeF shall accept the access tokens of the
	// session. It is called for each challenge, which has the address of this client; its errors
	// are returned as they are. nil allows all addresses.
	AllowedIPs func(*Challenge) (xades.AllowedIPs, error)
}

// BeginTokenLogin begins a login with a KSeF token. seenFrom is the address from which KSeF has
// seen the request for the challenge, "" where it does not say. The key of KSeF's that encrypts the
// token is fetched once a day; where KSeF has withdrawn it, it is fetched again and the login is
// submitted once more.
//
// A token that is still Pending may log in: KSeF decides the login when the token is Active. What
// KSeF has against a token is known only then, as the *LoginError of LoginStatus.
func (c *Client) BeginTokenLogin(ctx context.Context, login TokenLogin) (operation *Operation, seenFrom string, err error) {
	key, operation, seenFrom, err := c.submitToken(ctx, login, nil)
	if HasCode(err, codeUnknownPublicKey) {
		_, operation, seenFrom, err = c.submitToken(ctx, login, key)
	}
	return operation, seenFrom, err
}

// submitToken submits the login with another key than the refused one, and returns that key. It
// takes a challenge of its own: whether a refusal for the key spends the challenge is not
// documented.
func (c *Client) submitToken(ctx context.Context, login TokenLogin, refused *PublicKey) (key *PublicKey, operation *Operation, seenFrom string, err error) {
	// The challenge comes first: where KSeF is out of reach, logins that begin together fail side
	// by side, and do not wait for each other to fetch the key.
	challenge, err := c.Challenge(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	key, err = c.tokenKeys.other(ctx, c, refused)
	if err != nil {
		return nil, nil, challenge.ClientIP, err
	}
	body, err := login.request(challenge, key)
	if err != nil {
		return nil, nil, challenge.ClientIP, err
	}
	operation, err = fetch[Operation](ctx, c, call{endpoint: EndpointKSeFToken, success: http.StatusAccepted, json: body})
	return key, operation, challenge.ClientIP, err
}

// tokenLoginRequest is InitTokenAuthenticationRequest.
type tokenLoginRequest struct {
	Challenge      string               `json:"challenge"`
	Context        ContextIdentifier    `json:"contextIdentifier"`
	EncryptedToken []byte               `json:"encryptedToken"`
	PublicKeyID    string               `json:"publicKeyId,omitempty"`
	Policy         *authorizationPolicy `json:"authorizationPolicy,omitempty"`
}

// authorizationPolicy is AuthorizationPolicy.
type authorizationPolicy struct {
	AllowedIPs allowedIPs `json:"allowedIps"`
}

// allowedIPs is AllowedIps.
type allowedIPs struct {
	Addresses []string `json:"ip4Addresses,omitempty"`
	Ranges    []string `json:"ip4Ranges,omitempty"`
	Masks     []string `json:"ip4Masks,omitempty"`
}

func (l *TokenLogin) request(challenge *Challenge, key *PublicKey) (*tokenLoginRequest, error) {
	policy, err := l.policy(challenge)
	if err != nil {
		return nil, err
	}
	// As KSeF asks: RSA-OAEP with SHA-256 over "token|milliseconds of the challenge".
	plain := l.Token.Reveal() + "|" + strconv.FormatInt(challenge.TimestampMs, 10)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key.key, []byte(plain), nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting the KSeF token: %w", err)
	}
	return &tokenLoginRequest{challenge.Challenge, l.Taxpayer, encrypted, key.ID, policy}, nil
}

// policy returns nil where all addresses are allowed.
func (l *TokenLogin) policy(challenge *Challenge) (*authorizationPolicy, error) {
	if l.AllowedIPs == nil {
		return nil, nil
	}
	allowed, err := l.AllowedIPs(challenge)
	if err != nil || allowed.IsZero() {
		return nil, err
	}
	return &authorizationPolicy{allowedIPs(allowed)}, nil
}
