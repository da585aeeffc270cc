// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"slices"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
)

const fieldForce = "force"

// consent names what a write or delete of config may do besides what it says.
type consent string

// The consents, each of which one guard asks for.
const (
	// consentTokens leaves open tokens behind.
	consentTokens consent = "tokens"
	// consentRotation gives up the rotation in progress.
	consentRotation consent = "rotation"
	// consentCertificate replaces a certificate that the engine has made.
	consentCertificate consent = "certificate"
)

const consentMeanings = "tokens (leave open tokens behind, which can then no longer be revoked, or delete a configuration that cannot be read), " +
	"rotation (give up the rotation in progress), certificate (replace the certificate that the engine has made)"

// remedy is how to give the consent.
func (c consent) remedy() string { return "give " + fieldForce + "=" + string(c) }

// consents are those that a request gives.
type consents []string

func (c consents) to(what consent) bool { return slices.Contains(c, string(what)) }

func forceField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type:        framework.TypeCommaStringSlice,
		Description: "Consent to what is refused otherwise: one or more of " + consentMeanings + ". Default: none.",
	}
}

func consentsFrom(data *framework.FieldData) (consents, error) {
	given := data.Get(fieldForce).([]string)
	known := []string{string(consentTokens), string(consentRotation), string(consentCertificate)}
	for i, word := range given {
		if slices.Contains(known, word) {
			continue
		}
		fault := fmt.Sprintf("has at place %d a word that it does not know", i+1)
		if word == "true" || word == "false" {
			fault = "is " + word + ", which does not say what for"
		}
		return nil, &client.InputError{Field: fieldForce, Fault: fault, Remedy: "give one or more of " + consentMeanings}
	}
	return given, nil
}
