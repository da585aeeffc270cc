// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package consent has the field force of config, which names what a change may do besides what it
// says.
package consent

import (
	"fmt"
	"slices"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
)

// FieldForce is the field that gives consents.
const FieldForce = "force"

// Consent is a word in the field. Guards ask for it.
type Consent string

const (
	// Tokens leaves open tokens behind.
	Tokens Consent = "tokens"
	// Rotation gives up the rotation in progress.
	Rotation Consent = "rotation"
	// Certificate replaces a certificate that the engine has made.
	Certificate Consent = "certificate"
)

const meanings = "tokens (leave open tokens behind, which can then no longer be revoked, or delete a configuration that cannot be read), " +
	"rotation (give up the rotation in progress), certificate (replace the certificate that the engine has made)"

// Remedy is how to give the consent.
func (c Consent) Remedy() string { return "give " + FieldForce + "=" + string(c) }

// Set holds the consents that a request gives.
type Set []string

// Has says whether the consent is given.
func (s Set) Has(one Consent) bool { return slices.Contains(s, string(one)) }

// Field is the schema of FieldForce.
func Field() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeCommaStringSlice,
		Description: "Consent to what is refused otherwise: one or more of " + meanings + ". Default: none.",
	}
}

// Parse reads FieldForce. It refuses an unknown word with a *client.InputError.
func Parse(data *framework.FieldData) (Set, error) {
	given := data.Get(FieldForce).([]string)
	known := Set{string(Tokens), string(Rotation), string(Certificate)}
	for i, word := range given {
		if known.Has(Consent(word)) {
			continue
		}
		fault := fmt.Sprintf("has at place %d a word that it does not know", i+1)
		if word == "true" || word == "false" {
			fault = "is " + word + ", which does not say what for"
		}
		return nil, &client.InputError{Field: FieldForce, Fault: fault, Remedy: "give one or more of " + meanings}
	}
	return given, nil
}
