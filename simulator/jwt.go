// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Lifetimes of KSeF's JWTs, as seen in real ones.
const (
	operationLifetime = 45 * time.Minute
	accessLifetime    = 15 * time.Minute
	refreshLifetime   = 7 * 24 * time.Hour
)

// The kinds of JWT (claim typ).
const (
	operationJWT = "AuthenticationToken"
	accessJWT    = "ContextToken"
	refreshJWT   = "RefreshToken"
)

// signingKey signs the JWTs of one simulator and recognizes them.
type signingKey []byte

// newSigningKey makes a key.
func newSigningKey() signingKey {
	key := make(signingKey, 32)
	_, _ = rand.Read(key) // crypto/rand.Read never returns an error
	return key
}

// claims are the claims of KSeF's JWTs, in the order of real ones. An access token has all of them.
type claims struct {
	Type         string `json:"typ"`
	ContextType  string `json:"cit,omitempty"`
	ContextValue string `json:"civ,omitempty"`
	Method       string `json:"aum,omitempty"`
	Reference    string `json:"arn"`
	accessClaims
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
}

var (
	errBadJWT     = errors.New("not a token of this simulator")
	errExpiredJWT = errors.New("the token has expired")
)

// tokenInfo is a JWT in an answer.
type tokenInfo struct {
	Token      string    `json:"token"`
	ValidUntil timestamp `json:"validUntil"`
}

// issue makes a JWT for a login. Like KSeF's it has whole seconds and no serial number: two of one
// kind made in the same second are equal. The caller holds the lock.
func (s *Simulator) issue(kind string, l *login, now time.Time, lifetime time.Duration) tokenInfo {
	expires := now.Add(lifetime).Truncate(time.Second)
	c := claims{
		Type: kind, Reference: l.reference, Issued: expires.Add(-lifetime).Unix(), Expires: expires.Unix(),
		Issuer: "ksef-simulator", Audience: "ksef-simulator",
	}
	if kind == accessJWT {
		c.ContextType, c.ContextValue, c.Method = l.context.Type, l.context.Value, l.method.legacy
		c.accessClaims = s.accessClaims(l, now)
	}
	return tokenInfo{s.jwtKey.sign(c), timestamp(expires)}
}

// sign writes claims as a JWT.
func (k signingKey) sign(c claims) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(marshalClaim(c))
	return signed + "." + encode(k.mac(signed))
}

// parse returns the claims of a JWT that this simulator has made, with errExpiredJWT when its time
// is over.
func (k signingKey) parse(jwt string, now time.Time) (claims, error) {
	end := strings.LastIndexByte(jwt, '.')
	start := strings.IndexByte(jwt, '.')
	if start < 0 || start == end {
		return claims{}, errBadJWT
	}
	mac, err := base64.RawURLEncoding.DecodeString(jwt[end+1:])
	if err != nil || !hmac.Equal(mac, k.mac(jwt[:end])) {
		return claims{}, errBadJWT
	}
	payload, err := base64.RawURLEncoding.DecodeString(jwt[start+1 : end])
	if err != nil {
		return claims{}, errBadJWT
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return claims{}, errBadJWT
	}
	if !now.Before(time.Unix(c.Expires, 0)) {
		return c, errExpiredJWT
	}
	return c, nil
}

func (k signingKey) mac(text string) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
