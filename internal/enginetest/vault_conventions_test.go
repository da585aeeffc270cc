// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestResponsesMatchSchemas(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		issued := m.Issue()
		token := "tokens/" + issued.Data["reference_number"].(string)
		for _, step := range []struct {
			operation logical.Operation
			path      string
			data      map[string]any
		}{
			{logical.UpdateOperation, "config", map[string]any{"activation_timeout": "20s"}},
			{logical.ReadOperation, "config", nil},
			{logical.UpdateOperation, "roles/invoices", map[string]any{"ttl": "2h"}},
			{logical.ReadOperation, "roles/invoices", nil},
			{logical.ListOperation, "roles/", nil},
			{logical.ReadOperation, "creds/invoices", nil},
			{logical.UpdateOperation, "creds/invoices", map[string]any{"ttl": "5m"}},
			{logical.UpdateOperation, "tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report"}},
			{logical.ReadOperation, "tokens", nil},
			{logical.ListOperation, "tokens/", nil},
			{logical.ReadOperation, token, nil},
			{logical.ReadOperation, "status", nil},
			{logical.UpdateOperation, "tidy", nil},
			{logical.UpdateOperation, "roles/portal", map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token", "allowed_contexts": "*"}},
			{logical.ReadOperation, "roles/portal", nil},
			{logical.ReadOperation, "creds/portal", nil},
			{logical.ReadOperation, "creds/portal/" + NIP, nil},
			{logical.UpdateOperation, "rotate-access/portal", nil},
			{logical.UpdateOperation, "rotate-access/portal/" + NIP, nil},
			{logical.UpdateOperation, "roles/portal", map[string]any{"login": "certificate", "full_rights": true, "leased": true}},
			{logical.ReadOperation, "creds/portal", nil},
			{logical.UpdateOperation, "static-roles/erp", map[string]any{"permissions": "InvoiceRead", "rotation_period": "720h"}},
			{logical.ReadOperation, "static-roles/erp", nil},
			{logical.ListOperation, "static-roles/", nil},
			{logical.ReadOperation, "static-creds/erp", nil},
			{logical.UpdateOperation, "rotate-role/erp", nil},
			{logical.ReadOperation, "static-creds/erp", nil},
			{logical.ReadOperation, "static-creds/erp/access-token", nil},
			{logical.DeleteOperation, "static-roles/erp", map[string]any{"keep": true}},
			{logical.UpdateOperation, "tidy", nil},
			{logical.DeleteOperation, "roles/portal", nil},
			{logical.DeleteOperation, token, nil},
			{logical.DeleteOperation, "roles/invoices", nil},
		} {
			response := m.Must(m.Request(step.operation, step.path, step.data))
			t.Log(step.operation, step.path)
			schema.ValidateResponse(t, schema.GetResponseSchema(t, m.Route(step.path), step.operation), response, true)
		}
	})
}

func TestSealWrap(t *testing.T) {
	WithMount(t, simulator.Options{}, func(_ *testing.T, m *Mount) {
		m.Issue()
		m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
		m.Must(m.Read("static-creds/erp", nil))
		m.AccessRole("reports", nil)
		m.AccessToken("creds/reports")
		m.RememberSessions()
		m.requireSealWrapped()
	})
}

// requireSealWrapped checks every entry in storage.
func (m *Mount) requireSealWrapped() {
	m.T.Helper()
	ctx := m.T.Context()
	wrapped := 0
	for _, key := range m.Keys("") {
		entry, err := m.Storage.Get(ctx, key)
		require.NoError(m.T, err)
		m.requireWrappedIfSecret(*entry)
		if m.isSealWrapped(key) {
			wrapped++
		}
	}
	require.GreaterOrEqual(m.T, wrapped, 5, "the configuration, a session of the mount and one of a role, and two tokens")
}

// requireWrappedIfSecret requires that an entry is seal-wrapped, or is of a known kind and holds no
// secret.
func (m *Mount) requireWrappedIfSecret(entry logical.StorageEntry) {
	m.T.Helper()
	if m.isSealWrapped(entry.Key) {
		return
	}
	plain := []string{
		"roles/", "static-roles/", "token-holders/", "ledger/", "issued/", "budget/", "visits/", "mount-id", "unstored-sessions/",
		"unstored-access-sessions/", "access-reads/",
	}
	require.True(m.T, slices.ContainsFunc(plain, func(known string) bool { return strings.HasPrefix(entry.Key, known) }), entry.Key)
	require.Empty(m.T, secretsIn(entry.Value), entry.Key)
	for _, secret := range m.secrets {
		require.NotContains(m.T, string(entry.Value), secret, entry.Key)
	}
}

// requireNothingSecretIn searches responses and events for each secret of the run.
func (m *Mount) requireNothingSecretIn(answers []*logical.Response) {
	m.T.Helper()
	var seen []string
	for _, answer := range answers {
		text, err := json.Marshal(answer)
		require.NoError(m.T, err)
		seen = append(seen, string(text))
	}
	for _, event := range m.SentEvents() {
		text, err := json.Marshal(event.Event.Metadata.AsMap())
		require.NoError(m.T, err)
		seen = append(seen, string(text))
	}
	require.NotEmpty(m.T, m.secrets)
	for _, text := range seen {
		require.NotContains(m.T, text, "PRIVATE KEY")
		for _, secret := range m.secrets {
			quoted, err := json.Marshal(secret)
			require.NoError(m.T, err)
			require.NotContains(m.T, text, strings.Trim(string(quoted), `"`))
		}
	}
}

func (m *Mount) isSealWrapped(key string) bool {
	return slices.ContainsFunc(m.Backend.SpecialPaths().SealWrapStorage, func(path string) bool {
		return key == path || (strings.HasSuffix(path, "/") && strings.HasPrefix(key, path))
	})
}

func TestEvents(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		issued := m.Issue()
		require.NoError(t, m.Revoke(m.Lease(issued)))
		m.Must(m.Delete("config"))
		m.RememberSessions()
		seen := map[string]string{}
		for _, event := range m.SentEvents() {
			metadata, err := json.Marshal(event.Event.Metadata.AsMap())
			require.NoError(t, err)
			seen[string(event.Type)] = string(metadata)
			for _, secret := range m.secrets {
				require.NotContains(t, string(metadata), secret)
			}
		}
		for _, kind := range []string{"ksef/config-write", "ksef/login", "ksef/role-write", "ksef/token-issue", "ksef/token-revoke", "ksef/config-delete"} {
			require.Contains(t, seen, kind)
		}
		require.Contains(t, seen["ksef/token-issue"], issued.Data["reference_number"])
		require.Contains(t, seen["ksef/token-issue"], `"data_path":"tokens"`)
	})
}

func TestReconcilerNeedsWriteAccess(t *testing.T) {
	for name, test := range map[string]struct {
		state consts.ReplicationState
		local bool
		runs  bool
	}{
		"primary":                        {consts.ReplicationPerformancePrimary, false, true},
		"unreplicated":                   {0, false, true},
		"performance standby":            {consts.ReplicationPerformanceStandby, false, false},
		"performance secondary":          {consts.ReplicationPerformanceSecondary, false, false},
		"local mount on a secondary":     {consts.ReplicationPerformanceSecondary, true, true},
		"disaster recovery secondary":    {consts.ReplicationDRSecondary, false, false},
		"local mount on a standby still": {consts.ReplicationPerformanceStandby, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			InEnv(t, simulator.Options{}, func(t *testing.T, env *Env) {
				m := env.Mount(&logical.InmemStorage{})
				m.Configure()
				m.Issue()
				m.Stop()
				made, err := newFactory(env.Transport)(t.Context(), &logical.BackendConfig{
					StorageView: m.Storage, Logger: hclog.NewNullLogger(),
					System: &logical.StaticSystemView{ReplicationStateVal: test.state, LocalMountVal: test.local},
				})
				require.NoError(t, err)
				defer made.Cleanup(t.Context())
				require.NoError(t, made.Initialize(t.Context(), &logical.InitializationRequest{Storage: m.Storage}))
				env.Elapse(3 * time.Hour)
				require.Equal(t, test.runs, env.Requests(RevokeEndpoint) > 0, "the lease is overdue")
			})
		})
	}
}

func TestInvalidate(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		m.Issue()
		other := m.Env.NewMount(m.Storage)
		other.UseOwnProcess(m.Transport)
		other.Start()
		other.Must(other.Write("config", map[string]any{"activation_timeout": 0}))
		other.Stop()
		m.Backend.InvalidateKey(t.Context(), "config")
		require.Equal(t, "Pending", m.Issue().Data["status"])
	})
}
