// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"regexp"
	"strings"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/framework"
)

// longestName fits every storage that Vault has.
const longestName = 200

var validName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$`)

// anyName matches whatever stands in a name's place, so that nameFrom can say what is wrong with
// it.
func anyName(field string) string { return "(?P<" + field + ">(?s:.+))" }

// nameField is the schema of a name in a path.
func nameField(of string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Required: true, Description: "Name of the " + of + ", in lower case."}
}

// nameFrom reads a name as it is written. Vault's policies and leases go by the path as it is
// written too, so a name that stood for another would get round them.
func nameFrom(data *framework.FieldData, field string) (string, error) {
	name := data.Get(field).(string)
	if len(name) <= longestName && validName.MatchString(name) && !strings.Contains(name, "..") {
		return name, nil
	}
	return "", &client.InputError{
		Field: field, Fault: "cannot be a name",
		Remedy: "give up to 200 lower case letters, digits, dashes, dots and underscores, beginning and ending with a letter, digit or underscore, and no two dots in a row",
	}
}
