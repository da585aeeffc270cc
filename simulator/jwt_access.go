// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// accessClaims returns those of a login as its rights are at a time. The caller holds the lock.
func (s *Simulator) accessClaims(l *store.Login, at time.Time) jwt.AccessClaims {
	granted := s.permissionsOf(l.Identifier, l.Context, at)
	if s.owns(l.Identifier, l.Context) {
		granted = []string{jwt.OwnerPermission}
	}
	none := jwt.NewList(nil)
	made := jwt.AccessClaims{Subject: subjectDetailsOf(l).Claim(), Permissions: jwt.NewList(granted), Excluded: none, Roles: none, Effective: none, Other: none}
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

// tokenPermissions are what the bearer of an access token may do: what its login might when the token
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
