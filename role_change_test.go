// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const endSession = "DELETE /auth/sessions/current"

// slowDelete is a storage that takes long to delete one entry.
type slowDelete struct {
	logical.Storage
	key string
}

const deleteTakes = 10 * time.Second

func (s *slowDelete) Delete(ctx context.Context, key string) error {
	if key == s.key {
		<-time.After(deleteTakes)
	}
	return s.Storage.Delete(ctx, key)
}

// during calls do in the middle of a change that takes longer than wait.
func during(m *enginetest.Mount, change func(), wait time.Duration, do func()) {
	var group sync.WaitGroup
	group.Go(change)
	m.Elapse(wait)
	do()
	group.Wait()
}

func openTokenSessions(m *enginetest.Mount) (numbers []string) {
	for _, session := range m.KSeF.State().Sessions {
		if session.Active && session.TokenReferenceNumber != "" {
			numbers = append(numbers, session.ReferenceNumber)
		}
	}
	return numbers
}

// damage makes an entry unreadable, as another node could.
func damage(m *enginetest.Mount, key string) {
	m.Put(key, []byte("{"))
	m.Backend.InvalidateKey(m.Ctx, key)
}

func TestAccessRoleChange(t *testing.T) {
	const second = enginetest.SecondNIP
	t.Run("read_during_it_leaves_no_permissions_of_before", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": second}))
			m.AccessRole("invoices", map[string]any{"allowed_contexts": []string{enginetest.NIP, second}})
			paths := []string{"creds/invoices/" + enginetest.NIP, "creds/invoices/" + second}
			for _, path := range paths {
				m.AccessToken(path)
			}
			// The session of one taxpayer ends late, that of the other at once.
			m.Fault(simulator.Fault{Endpoint: endSession, Kind: simulator.FaultDelay, Delay: 5 * time.Second})
			during(m, func() { m.AccessRole("invoices", map[string]any{"permissions": "InvoiceWrite"}) }, 2*time.Second, func() {
				var readers sync.WaitGroup
				for _, path := range paths {
					readers.Go(func() { m.AccessToken(path) })
				}
				readers.Wait()
			})
			for _, path := range paths {
				require.Equal(t, http.StatusForbidden, m.QueryInvoices(m.AccessToken(path).Data["access_token"]), path)
			}
		})
	})
	t.Run("delete_revokes_the_token_although_the_session_cannot_be_ended", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			m.AccessToken("creds/invoices")
			m.Fault(simulator.Fault{Endpoint: endSession, Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, Times: 20})
			_, err := m.Delete("roles/invoices")
			require.ErrorContains(t, err, "the engine goes on by itself")
			m.Elapse(time.Minute)
			require.Empty(t, m.AliveTokens())
		})
	})
	t.Run("session_of_a_role_that_a_crash_has_left_without_one_ends", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			m.AccessToken("creds/invoices")
			m.Stop()
			require.NoError(t, m.Storage.Delete(m.Ctx, "roles/invoices"))
			m.Start()
			m.Elapse(10 * time.Minute)
			require.Empty(t, m.AliveTokens())
			require.Empty(t, openTokenSessions(m))
		})
	})
	t.Run("session_of_a_taxpayer_that_config_no_longer_allows_ends", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("config", map[string]any{"allowed_contexts": second}))
			m.AccessRole("invoices", map[string]any{"allowed_contexts": second})
			m.AccessToken("creds/invoices/" + second)
			m.Must(m.Write("config", map[string]any{"allowed_contexts": ""}))
			m.Elapse(10 * time.Minute)
			require.Empty(t, m.AliveTokens())
			require.Empty(t, openTokenSessions(m))
		})
	})
	for name, replace := range map[string]func(m *enginetest.Mount){
		"unreadable_deleted": func(m *enginetest.Mount) { m.Must(m.Delete("roles/invoices")) },
		"unreadable_rewritten": func(m *enginetest.Mount) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				m.AccessRole("invoices", nil)
				m.AccessToken("creds/invoices")
				damage(m, "roles/invoices")
				replace(m)
				m.Elapse(time.Minute)
				require.Empty(t, m.AliveTokens())
				require.Empty(t, openTokenSessions(m))
			})
		})
	}
}

func TestStaticRoleChange(t *testing.T) {
	t.Run("shows_in_access_tokens_at_once", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
			require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("static-creds/erp/access-token").Data["access_token"]))
			before := openTokenSessions(m)
			m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceWrite"}))
			require.Equal(t, http.StatusForbidden, m.QueryInvoices(m.AccessToken("static-creds/erp/access-token").Data["access_token"]))
			require.NotContains(t, openTokenSessions(m), before[0])
		})
	})
	for _, keep := range []bool{false, true} {
		t.Run(map[bool]string{false: "read_during_a_delete_leaves_no_token", true: "read_during_a_delete_with_keep_is_named"}[keep], func(t *testing.T) {
			enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
				m := env.Mount(&slowDelete{Storage: &logical.InmemStorage{}, key: "static-roles/erp"})
				defer m.Stop()
				m.Configure()
				m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead", "rotation_period": "720h"}))
				var deleted *logical.Response
				during(m, func() {
					deleted = m.Must(m.Request(logical.DeleteOperation, "static-roles/erp", map[string]any{"keep": keep}))
				}, deleteTakes/2, func() { _, _ = m.Read("static-creds/erp", nil) })
				m.Elapse(2 * time.Hour)
				var alive []string
				for _, token := range m.AliveTokens() {
					alive = append(alive, token.ReferenceNumber)
				}
				if keep {
					require.ElementsMatch(t, deleted.Data["reference_numbers"], alive)
				} else {
					require.Empty(t, alive)
				}
				require.EqualValues(t, 0, m.Status()["unleased_tokens"])
			})
		})
	}
	t.Run("unreadable_that_KSeF_refuses_keeps_its_token", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead"}))
			token := staticToken(m, "erp")["token"]
			damage(m, "static-roles/erp")
			m.Fault(simulator.Fault{Endpoint: "POST /tokens", Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: -1})
			written := m.Must(m.Write("static-roles/erp", map[string]any{"permissions": "InvoiceRead,InvoiceWrite"}))
			require.Contains(t, written.Warnings[0], "the token before stays in force")
			require.NoError(t, m.Login(token))
		})
	})
}
