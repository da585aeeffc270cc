// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"testing"
	"testing/synctest"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestReadsAskNothingOfKSeF(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Issue()
		m.Elapse(Day) // the access token has ended
		sent := m.AllRequests()
		for _, path := range []string{"config", "status", "roles/invoices"} {
			require.NotEmpty(t, m.Must(m.Read(path, nil)).Data, path)
		}
		for _, path := range []string{"roles/", "tokens/"} {
			require.Len(t, m.Must(m.List(path)).Data["keys"], 1, path)
		}
		require.Equal(t, sent, m.AllRequests())
	})
}

// TestReadsOfSecretsReadNoStorage has reads that come from memory: each of storage would cross to
// Vault and back.
func TestReadsOfSecretsReadNoStorage(t *testing.T) {
	InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
		storage := &readCounter{Storage: &logical.InmemStorage{}}
		m := env.Mount(storage)
		defer m.Stop()
		m.Configure()
		m.AccessRole("reports", nil)
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		for _, path := range []string{"creds/reports", "static-creds/erp", "static-creds/erp/access-token"} {
			m.Must(m.Read(path, nil))
			synctest.Wait()
			storage.reset()
			for range 100 {
				m.Must(m.Read(path, nil))
			}
			require.Zero(t, storage.reset(), path)
		}
	})
}

// TestRolesOfAnotherNode has a role written by the node that is active.
func TestRolesOfAnotherNode(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		write := func(m *Mount, permissions string) {
			for _, path := range []string{"roles/invoices", "static-roles/erp"} {
				m.Must(m.Write(path, map[string]any{"permissions": permissions}))
			}
		}
		shown := func() []any {
			return []any{m.Must(m.Read("roles/invoices", nil)).Data["permissions"], m.Must(m.Read("static-roles/erp", nil)).Data["permissions"]}
		}
		write(m, "InvoiceRead")
		require.Equal(t, []any{[]string{"InvoiceRead"}, []string{"InvoiceRead"}}, shown())
		other := m.NewMount(m.Storage)
		other.UseOwnProcess(m.Transport)
		other.Start()
		write(other, "InvoiceWrite")
		other.Stop()
		for _, path := range []string{"roles/invoices", "static-roles/erp"} {
			m.Backend.InvalidateKey(t.Context(), path)
		}
		require.Equal(t, []any{[]string{"InvoiceWrite"}, []string{"InvoiceWrite"}}, shown())
	})
}
