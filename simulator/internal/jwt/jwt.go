// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package jwt signs and reads the JWTs of KSeF: of an authentication operation, for access, and for
// refreshing.
package jwt

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

// The reasons to refuse a JWT.
var (
	ErrInvalid = errors.New("not a token of this simulator")
	ErrExpired = errors.New("the token has expired")
)

// Key signs and verifies the JWTs of one simulator.
type Key []byte

// Sign writes claims as a JWT.
func (k Key) Sign(c Claims) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(marshalClaim(c))
	return signed + "." + encode(k.mac(signed))
}

// Parse returns the claims of a JWT of this simulator, with ErrExpired when it has expired.
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

// NewKey makes a key.
func NewKey() Key {
	key := make(Key, 32)
	_, _ = rand.Read(key) // crypto/rand.Read never returns an error
	return key
}

func marshalClaim(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic("claims cannot fail to marshal: " + err.Error())
	}
	return data
}
