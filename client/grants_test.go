// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPersonalGrants(t *testing.T) {
	const rest = `"id":"0c0c0c0c-0000-0000-0000-000000000000","description":"Praca","startDate":"2026-01-01T00:00:00Z","canDelegate":false`
	for name, test := range map[string]struct {
		body string
		want Grants
	}{
		"empty": {`{"permissions":[],"hasMore":false}`, Grants{}},
		"granted": {
			`{"permissions":[{"permissionScope":"InvoiceRead","permissionState":"Active",` + rest + `},{"permissionScope":"InvoiceRead",` + rest + `},
			{"permissionScope":"InvoiceWrite","permissionState":"Inactive"},{"permissionScope":"ToCome","permissionState":"Other"}],"hasMore":true}`,
			Grants{Permissions: []string{"InvoiceRead", "ToCome"}, HasMore: true},
		},
		"by_the_taxpayer": {
			`{"permissions":[{"permissionScope":"InvoiceRead","contextIdentifier":{"type":"Nip","value":"5265877635"}}],"hasMore":false}`,
			Grants{Permissions: []string{"InvoiceRead"}},
		},
		"to_the_taxpayer_by_another": {
			`{"permissions":[{"permissionScope":"InvoiceRead","contextIdentifier":{"type":"Nip","value":"1111111111"}}],"hasMore":false}`, Grants{},
		},
		"owner_as_a_scope":       {`{"permissions":[{"permissionScope":"Owner"}],"hasMore":false}`, Grants{Permissions: []string{"Owner"}, Owner: true}},
		"owner_as_an_object":     {`{"permissions":[{"permissionScope":{"type":"OwnerPermissionScope"}}]}`, Grants{Owner: true, HasMore: true}},
		"unreadable":             {`{"permissions":[{"permissionScope":"InvoiceRead"},{"permissionScope":7}]}`, Grants{Permissions: []string{"InvoiceRead"}, HasMore: true}},
		"owner_beside_the_scope": {`{"permissions":[{"permissionScope":"InvoiceRead","ownerPermissionScope":"All"}]}`, Grants{Permissions: []string{"InvoiceRead"}, Owner: true}},
		"owner_beside_the_list":  {`{"permissions":null,"ownerPermissionScope":{"since":"2026-10-15"}}`, Grants{Owner: true}},
		"no_owner":               {`{"permissions":[{"permissionScope":"InvoiceRead","ownerPermissionScope":null}],"ownerPermissionScope":false}`, Grants{Permissions: []string{"InvoiceRead"}}},
	} {
		t.Run(name, func(t *testing.T) {
			ksef := &answering{status: http.StatusOK, body: test.body}
			grants, err := newClient(t, ksef).PersonalGrants(t.Context(), ContextIdentifier{ContextNIP, "5265877635"})
			require.NoError(t, err)
			require.Equal(t, "100", ksef.seen.URL.Query().Get("pageSize"))
			require.Equal(t, test.want, *grants)
		})
	}
}
