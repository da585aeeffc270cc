// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/json"
	"slices"
	"time"
)

// ownerPermission stands for all permissions in the access token of the owner of a context.
const ownerPermission = "Owner"

// accessClaims are the claims that access tokens have only. KSeF documents none of them (ksef-api
// issue 665). Real ones (issues 125, 482 and 838) have each as a string of JSON; a list is never
// null. What pec, rol and iop would hold is not known, nor what a login with a token has; the
// official C# client names per the permissions, pec those excluded, pep those in effect.
type accessClaims struct {
	Subject     string     `json:"sud,omitempty"` // subjectDetails
	Permissions claimsList `json:"per,omitempty"` // what the subject may do in the context
	Excluded    claimsList `json:"pec,omitempty"`
	Roles       claimsList `json:"rol,omitempty"`
	Effective   claimsList `json:"pep,omitempty"` // what a token limits its login to
	Other       claimsList `json:"iop,omitempty"`
}

// claimsList is a list as a string of JSON; "" where the claim is left out.
type claimsList string

func newClaimsList(list []string) claimsList {
	return claimsList(marshalClaim(append([]string{}, list...)))
}

func (l claimsList) values() []string {
	var values []string
	if err := json.Unmarshal([]byte(l), &values); err != nil {
		return nil // left out
	}
	return values
}

// subjectDetails is the claim sud: who has logged in, as the certificate names them.
type subjectDetails struct {
	Identifier             Identifier `json:"subjectIdentifier"`
	GivenName              string     `json:"givenName,omitempty"`
	Surname                string     `json:"surname,omitempty"`
	SerialNumber           string     `json:"serialNumber,omitempty"`
	CommonName             string     `json:"commonName,omitempty"`
	CountryName            string     `json:"countryName,omitempty"`
	OrganizationName       string     `json:"organizationName,omitempty"`
	OrganizationIdentifier string     `json:"organizationIdentifier,omitempty"`
}

// accessClaims returns those of a login as its rights are at a time. The caller holds the lock.
func (s *Simulator) accessClaims(l *login, at time.Time) accessClaims {
	granted := s.permissionsOf(l.identifier, l.context, at)
	if s.owns(l.identifier, l.context) {
		granted = []string{ownerPermission}
	}
	none := newClaimsList(nil)
	made := accessClaims{subjectDetailsOf(l).claim(), newClaimsList(granted), none, none, none, none}
	if l.token != "" {
		made.Effective = newClaimsList(s.effectivePermissions(l, at))
	}
	return made
}

func subjectDetailsOf(l *login) subjectDetails {
	details := subjectDetails{Identifier: l.identifier}
	if l.signed == nil {
		return details
	}
	attributes := subjectAttributes(l.signed)
	details.GivenName, details.Surname = attributes[oidGivenName], attributes[oidSurname]
	details.SerialNumber = attributes[oidSerialNumber]
	details.CommonName, details.CountryName = attributes[oidCommonName], attributes[oidCountry]
	details.OrganizationName = attributes[oidOrganization]
	details.OrganizationIdentifier = attributes[oidOrganizationIdentifier]
	return details
}

// claim writes the details as a string of JSON.
func (d subjectDetails) claim() string { return string(marshalClaim(d)) }

// tokenPermissions are what the bearer of an access token may do: what its login might when the token
// was issued.
func tokenPermissions(c claims, ofOwner []string) []string {
	granted := c.Permissions.values()
	switch {
	case c.Method == tokenMethod().legacy:
		return c.Effective.values()
	case slices.Contains(granted, ownerPermission):
		return ofOwner
	}
	return granted
}

func marshalClaim(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic("claims cannot fail to marshal: " + err.Error())
	}
	return data
}
