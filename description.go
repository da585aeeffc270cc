// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
)

// defaultDescription is the template of a role that gives none.
const defaultDescription = "Vault role {{.RoleName}}"

// describe fills in a role's template for a request.
func describe(text, roleName string, req *logical.Request) (string, error) {
	filled, err := fillTemplate("description", text, descriptionValues(roleName, req.DisplayName, req.EntityID, req.MountPoint))
	var refused *client.InputError
	if errors.As(err, &refused) {
		refused.Remedy = "write the role " + roleName + " again: " + refused.Remedy
	}
	if err != nil {
		return "", err
	}
	return filled, checkDescription(filled)
}

// checkDescriptionTemplate tries a template with sample values.
func checkDescriptionTemplate(text, roleName string) error {
	filled, err := fillTemplate("description", text,
		descriptionValues(roleName, "token-sample", "00000000-0000-0000-0000-000000000000", "ksef/"))
	if err != nil {
		return err
	}
	return checkDescription(filled)
}

// descriptionValues is what a description template can speak of.
func descriptionValues(roleName, displayName, entityID, mountPoint string) map[string]string {
	return map[string]string{
		"RoleName": roleName, "DisplayName": displayName, "EntityID": entityID, "MountPoint": mountPoint,
	}
}

// checkDescription holds KSeF's limits, less what the ledger's marker takes.
func checkDescription(text string) error {
	length := utf8.RuneCountInString(text)
	if length >= client.MinDescription && length <= ledger.MaxDescription && utf8.ValidString(text) {
		return nil
	}
	return &client.InputError{
		Field: "description", Fault: fmt.Sprintf("has %d characters", length),
		Remedy: fmt.Sprintf("give %d to %d; the engine adds its own mark to that", client.MinDescription, ledger.MaxDescription),
	}
}
