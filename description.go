// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"sync"
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

// templates keeps parsed description templates by their text: parsing one takes
// longer than all else that a request for a token computes.
type templates struct{ parsed sync.Map }

// describe fills in a role's template for a request.
func (t *templates) describe(text, roleName string, req *logical.Request) (string, error) {
	parse := func() (template.StringTemplate, error) { return t.parse(text) }
	filled, err := fill(parse, describer{
		RoleName: roleName, DisplayName: req.DisplayName, EntityID: req.EntityID, MountPoint: req.MountPoint,
	})
	if err != nil {
		return "", err
	}
	return filled, checkDescription(filled)
}

// checkDescriptionTemplate tries a template with sample values.
func checkDescriptionTemplate(text, roleName string) error {
	parse := func() (template.StringTemplate, error) { return template.NewTemplate(template.Template(text)) }
	filled, err := fill(parse, describer{
		RoleName: roleName, DisplayName: "token-sample", EntityID: "00000000-0000-0000-0000-000000000000", MountPoint: "ksef/",
	})
	if err != nil {
		return err
	}
	return checkDescription(filled)
}

func (t *templates) parse(text string) (template.StringTemplate, error) {
	if known, ok := t.parsed.Load(text); ok {
		return known.(template.StringTemplate), nil
	}
	parsed, err := template.NewTemplate(template.Template(text))
	if err == nil {
		t.parsed.Store(text, parsed)
	}
	return parsed, err
}

func fill(parse func() (template.StringTemplate, error), values describer) (string, error) {
	parsed, err := parse()
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
