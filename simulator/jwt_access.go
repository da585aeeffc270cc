// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"encoding/json"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

// OwnerPermission stands for all permissions in the access token of the owner of a context.
const OwnerPermission = "Owner"

// AccessClaims are the claims that access tokens have only. KSeF documents none of them (ksef-api
// issue 665). Real ones (issues 125, 482 and 838) have each as a string of JSON; a list is never
// null. What pec, rol and iop would hold is not known, nor what a login with a token has; the
// official C# client names per the permissions, pec those excluded, pep those in effect.
type AccessClaims struct {
	Subject     string `json:"sud,omitempty"` // subjectDetails
	Permissions List   `json:"per,omitempty"` // what the subject may do in the context
	Excluded    List   `json:"pec,omitempty"`
	Roles       List   `json:"rol,omitempty"`
	Effective   List   `json:"pep,omitempty"` // what a token limits its login to
	Other       List   `json:"iop,omitempty"`
}

// List is a list as a string of JSON; "" where the claim is left out.
type List string

func NewList(list []string) List {
	return List(marshalClaim(append([]string{}, list...)))
}

func (l List) Values() []string {
	var values []string
	if err := json.Unmarshal([]byte(l), &values); err != nil {
		return nil // left out
	}
	return values
}

// SubjectDetails is the claim sud: who has logged in, as the certificate names them.
type SubjectDetails struct {
	Identifier             ksef.Identifier `json:"subjectIdentifier"`
	GivenName              string          `json:"givenName,omitempty"`
	Surname                string          `json:"surname,omitempty"`
	SerialNumber           string          `json:"serialNumber,omitempty"`
	CommonName             string          `json:"commonName,omitempty"`
	CountryName            string          `json:"countryName,omitempty"`
	OrganizationName       string          `json:"organizationName,omitempty"`
	OrganizationIdentifier string          `json:"organizationIdentifier,omitempty"`
}

// accessClaims returns those of a login as its rights are at a time. The caller holds the lock.
func (s *Simulator) accessClaims(l *Login, at time.Time) AccessClaims {
	granted := s.permissionsOf(l.Identifier, l.Context, at)
	if s.owns(l.Identifier, l.Context) {
		granted = []string{OwnerPermission}
	}
	none := NewList(nil)
	made := AccessClaims{subjectDetailsOf(l).Claim(), NewList(granted), none, none, none, none}
	if l.Token != "" {
		made.Effective = NewList(s.effectivePermissions(l, at))
	}
	return made
}

func subjectDetailsOf(l *Login) SubjectDetails {
	details := SubjectDetails{Identifier: l.Identifier}
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

// Claim writes the details as a string of JSON.
func (d SubjectDetails) Claim() string { return string(marshalClaim(d)) }

// tokenPermissions are what the bearer of an access token may do: what its login might when the token
// was issued.
func tokenPermissions(c Claims, ofOwner []string) []string {
	granted := c.Permissions.Values()
	switch {
	case c.Method == tokenMethod().Legacy:
		return c.Effective.Values()
	case slices.Contains(granted, OwnerPermission):
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
