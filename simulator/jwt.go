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
	OperationLifetime = 45 * time.Minute
	AccessLifetime    = 15 * time.Minute
	RefreshLifetime   = 7 * 24 * time.Hour
)

// The kinds of JWT (claim typ).
const (
	Operation = "AuthenticationToken"
	Access    = "ContextToken"
	Refresh   = "RefreshToken"
)

// Key signs the JWTs of one simulator and recognizes them.
type Key []byte

// NewKey makes a key.
func NewKey() Key {
	key := make(Key, 32)
	_, _ = rand.Read(key) // crypto/rand.Read never returns an error
	return key
}

// Claims are the claims of KSeF's JWTs, in the order of real ones. An access token has all of them.
type Claims struct {
	Type         string `json:"typ"`
	ContextType  string `json:"cit,omitempty"`
	ContextValue string `json:"civ,omitempty"`
	Method       string `json:"aum,omitempty"`
	Reference    string `json:"arn"`
	AccessClaims
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
}

var (
	ErrInvalid = errors.New("not a token of this simulator")
	ErrExpired = errors.New("the token has expired")
)

// tokenInfo is a JWT in an answer.
type tokenInfo struct {
	Token      string    `json:"token"`
	ValidUntil timestamp `json:"validUntil"`
}

// issue makes a JWT for a login. Like KSeF's it has whole seconds and no serial number: two of one
// kind made in the same second are equal. The caller holds the lock.
func (s *Simulator) issue(kind string, l *Login, now time.Time, lifetime time.Duration) tokenInfo {
	expires := now.Add(lifetime).Truncate(time.Second)
	c := Claims{
		Type: kind, Reference: l.Reference, Issued: expires.Add(-lifetime).Unix(), Expires: expires.Unix(),
		Issuer: "ksef-simulator", Audience: "ksef-simulator",
	}
	if kind == Access {
		c.ContextType, c.ContextValue, c.Method = l.Context.Type, l.Context.Value, l.Method.Legacy
		c.AccessClaims = s.accessClaims(l, now)
	}
	return tokenInfo{s.jwtKey.Sign(c), timestamp(expires)}
}

// Sign writes claims as a JWT.
func (k Key) Sign(c Claims) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(marshalClaim(c))
	return signed + "." + encode(k.mac(signed))
}

// Parse returns the claims of a JWT that this simulator has made, with errExpiredJWT when its time
// is over.
func (k Key) Parse(jwt string, now time.Time) (Claims, error) {
	end := strings.LastIndexByte(jwt, '.')
	start := strings.IndexByte(jwt, '.')
	if start < 0 || start == end {
		return Claims{}, ErrInvalid
	}
	mac, err := base64.RawURLEncoding.DecodeString(jwt[end+1:])
	if err != nil || !hmac.Equal(mac, k.mac(jwt[:end])) {
		return Claims{}, ErrInvalid
	}
	payload, err := base64.RawURLEncoding.DecodeString(jwt[start+1 : end])
	if err != nil {
		return Claims{}, ErrInvalid
	}
	var c Claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return Claims{}, ErrInvalid
	}
	if !now.Before(time.Unix(c.Expires, 0)) {
		return c, ErrExpired
	}
	return c, nil
}

func (k Key) mac(text string) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
