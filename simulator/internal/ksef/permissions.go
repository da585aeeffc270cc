// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

// AllPermissions are the permissions that a token can have (TokenPermissionType of OpenAPI 2.7.0).
func AllPermissions() []string {
	return []string{
		"InvoiceRead", "InvoiceWrite", "CredentialsRead", "CredentialsManage",
		"SubunitManage", "EnforcementOperations", "Introspection", "CollectiveIdentifierManage",
	}
}
