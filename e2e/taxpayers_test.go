// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const (
	taxpayers = 300
	// taxpayersAtOnce suits Vault and two cores.
	taxpayersAtOnce = 8
)

// TestOneRoleForManyTaxpayers has one role and one policy with a template serve 300 programs. The
// metadata of each program's entity names its taxpayer: it reads that one's access token, and no
// other's.
func TestOneRoleForManyTaxpayers(t *testing.T) {
	t.Parallel()
	nips := someNIPs(taxpayers)
	secrets := &secrets{}
	_, ksefURL := startKSeF(t, secrets, simulator.Options{Grants: grantsIn(nips)})
	vault := startServer(t, secrets)
	vault.enable(t, "ksef", ksefURL, map[string]any{"allowed_contexts": nips})
	vault.write(t, "ksef/roles/invoices", map[string]any{
		"permissions": "InvoiceRead", "allowed_contexts": "*",
		"credential_type": "access_token", "login": "certificate", "full_rights": true,
	})
	require.NoError(t, vault.Sys().PutPolicyWithContext(t.Context(), "taxpayer",
		`path "ksef/creds/invoices/{{identity.entity.metadata.nip}}" { capabilities = ["read"] }`))
	accessor := vault.enableAppRole(t)

	var programs errgroup.Group
	programs.SetLimit(taxpayersAtOnce)
	for i, own := range nips {
		programs.Go(func() error {
			program, err := vault.logInFor(t, accessor, own)
			if err != nil {
				return err
			}
			return requireOnly(t, program, ksefURL, own, "", "/"+testNIP, "/"+nips[(i+1)%len(nips)], "/"+nips[(i+len(nips)/2)%len(nips)])
		})
	}
	require.NoError(t, programs.Wait())
}

// requireOnly reads the access token of a program's own taxpayer and uses it, and is refused those
// of others, which are what follows the role in a path.
func requireOnly(t *testing.T, program *api.Client, ksefURL, own string, others ...string) error {
	answer, err := program.Logical().ReadWithContext(t.Context(), "ksef/creds/invoices/"+own)
	if err != nil {
		return err
	}
	text, _ := answer.Data["access_token"].(string)
	token, err := parseJWT(text)
	if err != nil {
		return err
	}
	if token.taxpayer != own || answer.Data["nip"] != own {
		return fmt.Errorf("%s has got an access token of %s (%s)", own, token.taxpayer, answer.Data["nip"])
	}
	if permissions := fmt.Sprint(answer.Data["permissions"]); permissions != "[InvoiceRead]" {
		return fmt.Errorf("%s has got an access token with the permissions %s", own, permissions)
	}
	status, err := queryInvoices(t.Context(), ksefURL, text)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s has got an access token that KSeF answers with %d", own, status)
	}
	for _, other := range others {
		_, err := program.Logical().ReadWithContext(t.Context(), "ksef/creds/invoices"+other)
		if status := statusOf(err); status != http.StatusForbidden {
			return fmt.Errorf("%s reads creds/invoices%s, which is answered with %d", own, other, status)
		}
	}
	return nil
}

func (s *server) enableAppRole(t *testing.T) (accessor string) {
	t.Helper()
	require.NoError(t, s.Sys().EnableAuthWithOptionsWithContext(t.Context(), "approle", &api.EnableAuthOptions{Type: "approle"}))
	mounts, err := s.Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	return mounts["approle/"].Accessor
}

// logInFor logs a program in by an AppRole of its own, whose entity has the taxpayer in its
// metadata.
func (s *server) logInFor(t *testing.T, accessor, nip string) (*api.Client, error) {
	name := "program-" + nip
	write := func(path string, data map[string]any) (*api.Secret, error) {
		return s.Logical().WriteWithContext(t.Context(), path, data)
	}
	if _, err := write("auth/approle/role/"+name, map[string]any{"token_policies": "taxpayer", "role_id": name}); err != nil {
		return nil, err
	}
	entity, err := write("identity/entity", map[string]any{"name": name, "metadata": map[string]any{"nip": nip}})
	if err != nil {
		return nil, err
	}
	if _, err := write("identity/entity-alias", map[string]any{
		"name": name, "canonical_id": entity.Data["id"], "mount_accessor": accessor,
	}); err != nil {
		return nil, err
	}
	secretID, err := write("auth/approle/role/"+name+"/secret-id", nil)
	if err != nil {
		return nil, err
	}
	login, err := write("auth/approle/login", map[string]any{"role_id": name, "secret_id": secretID.Data["secret_id"]})
	if err != nil {
		return nil, err
	}
	program, err := s.Clone()
	if err != nil {
		return nil, err
	}
	program.SetToken(login.Auth.ClientToken)
	return program, nil
}

// someNIPs returns NIPs with valid checksums.
func someNIPs(count int) []string {
	var all []string
	for number := 1111111111; len(all) < count; number++ {
		if nip := strconv.Itoa(number); nip != testNIP {
			if _, err := client.ParseNIP(nip); err == nil {
				all = append(all, nip)
			}
		}
	}
	return all
}

// grantsIn give the mount's subject what its programs need, in the contexts of taxpayers.
func grantsIn(nips []string) []simulator.Grant {
	grants := make([]simulator.Grant, len(nips))
	for i, nip := range nips {
		grants[i] = simulator.Grant{
			Identifier: simulator.Identifier{Type: "Nip", Value: testNIP}, Context: simulator.Identifier{Type: "Nip", Value: nip},
			Permissions: []string{"InvoiceRead"},
		}
	}
	return grants
}
