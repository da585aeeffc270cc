// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package description makes the description of a token in KSeF from the template of its role.
package description

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

// Default is the template of a role without one.
const Default = "Vault role {{.RoleName}}"

// Fill returns the description of a token that the request asks for under the role.
func (t *Template) Fill(roleName string, req *logical.Request) (string, error) {
	filled, err := t.fill("description", values(roleName, req.DisplayName, req.EntityID, req.MountPoint))
	var refused *client.InputError
	if errors.As(err, &refused) {
		refused.Remedy = "write the role " + roleName + " again: " + refused.Remedy
	}
	if err != nil {
		return "", err
	}
	return filled, Check(filled)
}

// CheckTemplate fills a template with sample values.
func CheckTemplate(text, roleName string) error {
	filled, err := FillTemplate("description", text,
		values(roleName, "token-sample", "00000000-0000-0000-0000-000000000000", "ksef/"))
	if err != nil {
		return err
	}
	return Check(filled)
}

// values are the values that a template can use.
func values(roleName, displayName, entityID, mountPoint string) map[string]string {
	return map[string]string{
		"RoleName": roleName, "DisplayName": displayName, "EntityID": entityID, "MountPoint": mountPoint,
	}
}

// Check applies KSeF's limits, less the length of the ledger's marker.
func Check(text string) error {
	length := utf8.RuneCountInString(text)
	if length >= client.MinDescription && length <= ledger.MaxDescription && utf8.ValidString(text) {
		return nil
	}
	return &client.InputError{
		Field: "description", Fault: fmt.Sprintf("has %d characters", length),
		Remedy: fmt.Sprintf("give %d to %d; the engine adds its own mark to that", client.MinDescription, ledger.MaxDescription),
	}
}
