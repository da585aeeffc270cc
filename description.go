// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/helper/template"
	"github.com/hashicorp/vault/sdk/logical"
)

// defaultDescription is the template of a role that gives none.
const defaultDescription = "Vault role {{.RoleName}}"

// describer is what a description template can speak of.
type describer struct {
	RoleName    string
	DisplayName string
	EntityID    string
	MountPoint  string
}

// describe fills in a role's template for a request.
func describe(text, roleName string, req *logical.Request) (string, error) {
	filled, err := fill(text, describer{
		RoleName: roleName, DisplayName: req.DisplayName, EntityID: req.EntityID, MountPoint: req.MountPoint,
	})
	if err != nil {
		return "", err
	}
	return filled, checkDescription(filled)
}

// checkDescriptionTemplate tries a template with sample values.
func checkDescriptionTemplate(text, roleName string) error {
	filled, err := fill(text, describer{
		RoleName: roleName, DisplayName: "token-sample", EntityID: "00000000-0000-0000-0000-000000000000", MountPoint: "ksef/",
	})
	if err != nil {
		return err
	}
	return checkDescription(filled)
}

func fill(text string, values describer) (string, error) {
	parsed, err := template.NewTemplate(template.Template(text))
	if err == nil {
		var filled string
		if filled, err = parsed.Generate(values); err == nil {
			return filled, nil
		}
	}
	return "", &client.InputError{
		Field: "description", Fault: fmt.Sprintf("is not a template that can be filled in (%v)", err),
		Remedy: "use {{.RoleName}}, {{.DisplayName}}, {{.EntityID}} and {{.MountPoint}}",
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
