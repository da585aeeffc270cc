// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const publicKeyUsageTokens = "KsefTokenEncryption"

// BeginTokenLogin begins a login with a KSeF token. Where KSeF has withdrawn the key since it was
// fetched, the keys are fetched again and the login is submitted once more.
func (c *Client) BeginTokenLogin(ctx context.Context, taxpayer ContextIdentifier, token Secret) (*Operation, error) {
	operation, err := c.submitTokenOnce(ctx, taxpayer, token)
	if HasCode(err, codeUnknownPublicKey) {
		return c.submitTokenOnce(ctx, taxpayer, token)
	}
	return operation, err
}

// submitTokenOnce takes a challenge of its own: whether a refusal for the key spends the challenge
// is not documented.
func (c *Client) submitTokenOnce(ctx context.Context, taxpayer ContextIdentifier, token Secret) (*Operation, error) {
	key, err := c.TokenKey(ctx)
	if err != nil {
		return nil, err
	}
	challenge, err := c.Challenge(ctx)
	if err != nil {
		return nil, err
	}
	// As KSeF asks: RSA-OAEP with SHA-256 over "token|milliseconds of the challenge".
	plain := token.Reveal() + "|" + strconv.FormatInt(challenge.TimestampMs, 10)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key.key, []byte(plain), nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting the KSeF token: %w", err)
	}
	return fetch[Operation](ctx, c, call{endpoint: EndpointKSeFToken, success: http.StatusAccepted, json: struct {
		Challenge      string            `json:"challenge"`
		Context        ContextIdentifier `json:"contextIdentifier"`
		EncryptedToken []byte            `json:"encryptedToken"`
		PublicKeyID    string            `json:"publicKeyId,omitempty"`
	}{challenge.Challenge, taxpayer, encrypted, key.ID}})
}

// PublicKey is a key of KSeF's for encrypting what is sent to it.
type PublicKey struct {
	ID  string
	key *rsa.PublicKey
}

var errNoTokenKey = errors.New("KSeF publishes no RSA key that is valid now for encrypting tokens")

// publicKeyCertificate is PublicKeyCertificate.
type publicKeyCertificate struct {
	Certificate string    `json:"certificate"`
	PublicKeyID string    `json:"publicKeyId"`
	ValidFrom   time.Time `json:"validFrom"`
	ValidTo     time.Time `json:"validTo"`
	Usage       []string  `json:"usage"`
}

// publicKeys is the answer of GET /security/public-key-certificates.
type publicKeys []publicKeyCertificate

func (p *publicKeys) translate(c clock) {
	for i := range *p {
		(*p)[i].ValidFrom, (*p)[i].ValidTo = c.local((*p)[i].ValidFrom), c.local((*p)[i].ValidTo)
	}
}

// TokenKey fetches the key with which a KSeF token is encrypted for a login. Several may be valid
// at once while KSeF replaces one: the one whose validity has begun last is the one that stays
// (KSeF's page on public keys).
func (c *Client) TokenKey(ctx context.Context) (*PublicKey, error) {
	var out publicKeys
	err := c.do(ctx, call{endpoint: EndpointPublicKeys, success: http.StatusOK}, &out)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b publicKeyCertificate) int { return b.ValidFrom.Compare(a.ValidFrom) })
	now := time.Now()
	for _, candidate := range out {
		if !candidate.encryptsTokens(now) {
			continue
		}
		if key := rsaKey(candidate.Certificate); key != nil {
			return &PublicKey{ID: candidate.PublicKeyID, key: key}, nil
		}
	}
	return nil, errNoTokenKey
}

func (p publicKeyCertificate) encryptsTokens(now time.Time) bool {
	return slices.Contains(p.Usage, publicKeyUsageTokens) && !now.Before(p.ValidFrom) && !now.After(p.ValidTo)
}

func rsaKey(certificate string) *rsa.PublicKey {
	der, err := base64.StdEncoding.DecodeString(certificate)
	if err != nil {
		return nil
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	key, _ := parsed.PublicKey.(*rsa.PublicKey)
	return key
}
