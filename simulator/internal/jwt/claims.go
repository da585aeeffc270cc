// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package jwt

import (
	"encoding/json"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
)

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

// AccessClaims are the additional claims of access tokens. KSeF documents none of them (ksef-api
// issue 665). In real ones (issues 125, 482 and 838) each is a string of JSON, and a list is never
// null. What pec, rol and iop contain is not known, nor the claims of a login with a token. The
// official C# client names per the permissions, pec those excluded, pep those in effect.
type AccessClaims struct {
	Subject     string `json:"sud,omitempty"` // subjectDetails
	Permissions List   `json:"per,omitempty"` // the subject's permissions in the context
	Excluded    List   `json:"pec,omitempty"`
	Roles       List   `json:"rol,omitempty"`
	Effective   List   `json:"pep,omitempty"` // what a token limits its login to
	Other       List   `json:"iop,omitempty"`
}

// List is a list as a string of JSON, or "" when the claim is left out.
type List string

// Values returns the list, or nil when the claim is left out.
func (l List) Values() []string {
	var values []string
	if err := json.Unmarshal([]byte(l), &values); err != nil {
		return nil // left out
	}
	return values
}

// NewList encodes a list.
func NewList(list []string) List {
	return List(marshalClaim(append([]string{}, list...)))
}

// SubjectDetails is the claim sud: the subject as its certificate names it.
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

// Claim writes the details as a string of JSON.
func (d SubjectDetails) Claim() string { return string(marshalClaim(d)) }

// OwnerPermission stands for all permissions in the access token of a context's owner.
const OwnerPermission = "Owner"
