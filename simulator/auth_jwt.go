// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// tokenInfo is a JWT in a response.
type tokenInfo struct {
	Token      string    `json:"token"`
	ValidUntil timestamp `json:"validUntil"`
}

// issue makes a JWT for a login. As in KSeF's JWTs, times are whole seconds and there is no serial
// number, so two of one kind made in the same second are equal. The caller holds the lock.
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

// accessClaims returns the claims of a login with its rights at a time. The caller holds the lock.
func (s *Simulator) accessClaims(l *store.Login, at time.Time) jwt.AccessClaims {
	granted := s.permissionsOf(l.Identifier, l.Context, at)
	if s.owns(l.Identifier, l.Context) {
		granted = []string{jwt.OwnerPermission}
	}
	none := jwt.NewList(nil)
	made := jwt.AccessClaims{Subject: subjectDetailsOf(l).Claim(), Permissions: jwt.NewList(granted), Excluded: none,
		Roles: none, Effective: none, Other: none}
	if l.Token != "" {
		made.Effective = jwt.NewList(s.effectivePermissions(l, at))
	}
	return made
}

func subjectDetailsOf(l *store.Login) jwt.SubjectDetails {
	details := jwt.SubjectDetails{Identifier: l.Identifier}
	if l.Signed == nil {
		return details
	}
	attributes := subjectAttributes(l.Signed)
	details.GivenName, details.Surname = attributes[oidGivenName], attributes[oidSurname]
	details.SerialNumber = attributes[oidSerialNumber]
	details.CommonName, details.CountryName = attributes[oidCommonName], attributes[oidCountry]
	details.OrganizationName = attributes[oidOrganization]
	details.OrganizationIdentifier = attributes[oidOrganizationIdentifier]
	return details
}

// tokenPermissions returns the permissions of an access token: those of its login when the token
// was issued.
func tokenPermissions(c jwt.Claims, ofOwner []string) []string {
	granted := c.Permissions.Values()
	switch {
	case c.Method == tokenMethod().Legacy:
		return c.Effective.Values()
	case slices.Contains(granted, jwt.OwnerPermission):
		return ofOwner
	}
	return granted
}
