// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// tokenInfo is a JWT in an answer.
type tokenInfo struct {
	Token      string    `json:"token"`
	ValidUntil timestamp `json:"validUntil"`
}

// issue makes a JWT for a login. Like KSeF's it has whole seconds and no serial number: two of one
// kind made in the same second are equal. The caller holds the lock.
func (s *Simulator) issue(kind string, l *store.Login, now time.Time, lifetime time.Duration) tokenInfo {
	expires := now.Add(lifetime).Truncate(time.Second)
	c := jwt.Claims{
		Type: kind, Reference: l.Reference, Issued: expires.Add(-lifetime).Unix(), Expires: expires.Unix(),
		Issuer: "ksef-simulator", Audience: "ksef-simulator",
	}
	if kind == jwt.Access {
		c.ContextType, c.ContextValue, c.Method = l.Context.Type, l.Context.Value, l.Method.Legacy
		c.AccessClaims = s.accessClaims(l, now)
	}
	return tokenInfo{s.jwtKey.Sign(c), timestamp(expires)}
}
