// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

func TestAccessToken(t *testing.T) {
	t.Run("answer", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			before := time.Now()
			read := m.AccessToken("creds/invoices")
			require.Nil(t, read.Secret, "no lease")
			require.Empty(t, read.Warnings)
			require.Equal(t, "Bearer", read.Data["token_type"])
			require.Equal(t, enginetest.NIP, read.Data["nip"])
			require.Equal(t, []string{"InvoiceRead"}, read.Data["permissions"])
			require.EqualValues(t, 240, read.Data["rotation_period"])
			require.InDelta(t, 240, read.Data["ttl"], 1)
			require.NotEmpty(t, read.Data["session_reference_number"])
			for field, after := range map[string]time.Duration{"last_vault_rotation": 0, "expires_at": 15 * time.Minute} {
				at, err := time.Parse(time.RFC3339, read.Data[field].(string))
				require.NoError(t, err)
				require.WithinDuration(t, before.Add(after), at, 30*time.Second, field)
			}
			require.Equal(t, http.StatusOK, m.QueryInvoices(read.Data["access_token"]))
			m.AccessRole("writer", map[string]any{"permissions": "InvoiceWrite"})
			require.Equal(t, http.StatusForbidden, m.QueryInvoices(m.AccessToken("creds/writer").Data["access_token"]))
		})
	})
	t.Run("reads_cost_KSeF_nothing", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			first := m.AccessToken("creds/invoices").Data["access_token"]
			sent := m.AllRequests()
			for range 10_000 {
				require.Equal(t, first, m.Must(m.Read("creds/invoices", nil)).Data["access_token"])
			}
			require.Equal(t, sent, m.AllRequests())
		})
	})
	t.Run("refreshed_ahead", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			first := m.AccessToken("creds/invoices")
			logins := m.Requests("POST /auth/ksef-token")
			for range 12 {
				m.Elapse(5 * time.Minute)
				read := m.AccessToken("creds/invoices")
				require.NotEqual(t, first.Data["access_token"], read.Data["access_token"])
				require.Equal(t, first.Data["session_reference_number"], read.Data["session_reference_number"])
				require.Equal(t, http.StatusOK, m.QueryInvoices(read.Data["access_token"]))
				first = read
			}
			require.Equal(t, logins, m.Requests("POST /auth/ksef-token"))
		})
	})
	t.Run("backing_token_is_never_handed_out", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", map[string]any{"description": "{{.DisplayName}} of {{.EntityID}}", "permissions": "InvoiceRead,InvoiceWrite"})
			m.AccessToken("creds/invoices")
			tokens := m.AliveTokens()
			require.Len(t, tokens, 1)
			require.Equal(t, []string{"InvoiceRead", "InvoiceWrite"}, tokens[0].RequestedPermissions)
			require.Regexp(t, `^Vault role invoices \[vault:[0-9a-f]{12}:access[0-9a-f]{16}\]$`, tokens[0].Description)
			refusal := m.Refused(m.Delete("tokens/" + tokens[0].ReferenceNumber))
			require.Contains(t, refusal, "invoices")
			require.Len(t, m.AliveTokens(), 1)
			require.EqualValues(t, 1, m.Status()["unleased_tokens"])
		})
	})
	t.Run("leased", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("spring", map[string]any{"leased": true})
			read := m.AccessToken("creds/spring")
			require.NotNil(t, read.Secret)
			require.False(t, read.Secret.Renewable)
			require.InDelta(t, 240, read.Secret.TTL.Seconds(), 1)
			sent := m.AllRequests()
			require.NoError(t, m.Revoke(read.Secret))
			require.Equal(t, sent, m.AllRequests(), "its end does nothing")
			require.Equal(t, http.StatusOK, m.QueryInvoices(read.Data["access_token"]))
		})
	})
	t.Run("role_changed_or_deleted", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			m.AccessToken("creds/invoices")
			first := m.AliveTokens()[0].ReferenceNumber
			m.AccessRole("invoices", map[string]any{"permissions": "InvoiceWrite"})
			m.Elapse(time.Minute)
			require.Equal(t, "Revoked", m.StatusInKSeF(first))
			read := m.AccessToken("creds/invoices")
			require.Equal(t, http.StatusForbidden, m.QueryInvoices(read.Data["access_token"]), "the new permissions")
			m.Must(m.Delete("roles/invoices"))
			m.Elapse(time.Minute)
			require.Empty(t, m.AliveTokens())
			require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "does not exist")
			m.RequireEmptyLedger()
			for _, session := range m.KSeF.State().Sessions {
				require.False(t, session.Active && session.TokenReferenceNumber != "", "sessions of the role end")
			}
		})
	})
	t.Run("unread_for_a_day_and_for_seven", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			m.AccessToken("creds/invoices")
			m.Elapse(26 * time.Hour)
			refreshes := m.Requests("POST /auth/token/refresh")
			m.Elapse(26 * time.Hour)
			require.Equal(t, refreshes, m.Requests("POST /auth/token/refresh"), "the session has ended")
			require.Len(t, m.AliveTokens(), 1)
			require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/invoices").Data["access_token"]))
			m.Elapse(9 * 24 * time.Hour)
			require.Empty(t, m.AliveTokens())
			require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/invoices").Data["access_token"]), "made anew")
		})
	})
	t.Run("reader_revokes_what_stands_behind", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			read := m.AccessToken("creds/invoices")
			dead := m.AliveTokens()[0].ReferenceNumber
			m.RevokeAs(read.Data["access_token"], dead)
			for range 4 {
				m.Elapse(5 * time.Minute)
				require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/invoices").Data["access_token"]))
			}
			alive := m.AliveTokens()
			require.Len(t, alive, 1)
			require.NotEqual(t, dead, alive[0].ReferenceNumber)
			m.RequireEvent("ksef/token-replace")
		})
	})
	t.Run("reader_ends_the_session", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			m.EndSessionAs(m.AccessToken("creds/invoices").Data["access_token"])
			tokens := m.AliveTokens()
			for range 4 {
				m.Elapse(5 * time.Minute)
				require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/invoices").Data["access_token"]))
			}
			require.Equal(t, tokens, m.AliveTokens(), "the token behind it stays")
		})
	})
	t.Run("rotate_access", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", nil)
			before := m.AccessToken("creds/invoices")
			token := m.AliveTokens()[0].ReferenceNumber
			rotated := m.Must(m.Write("rotate-access/invoices", nil))
			require.Contains(t, rotated.Warnings[0], "15 minutes more")
			m.Elapse(time.Minute)
			require.Equal(t, "Revoked", m.StatusInKSeF(token))
			after := m.AccessToken("creds/invoices")
			require.NotEqual(t, before.Data["session_reference_number"], after.Data["session_reference_number"])
			m.Must(m.Write("roles/leased", map[string]any{"permissions": "InvoiceRead"}))
			require.Contains(t, m.Refused(m.Write("rotate-access/leased", nil)), "hands out tokens")
		})
	})
	t.Run("allowed_ips", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", map[string]any{"allowed_ips": "192.0.2.0/24"})
			require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/invoices").Data["access_token"]), "the engine's own address")
		})
	})
}

func TestAccessByCertificate(t *testing.T) {
	certificate := map[string]any{"login": "certificate", "full_rights": true}
	t.Run("wants_full_rights", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			refusal := m.Refused(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "credential_type": "access_token", "login": "certificate"}))
			require.Contains(t, refusal, "full_rights: ")
		})
	})
	t.Run("owner", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", certificate)
			read := m.AccessToken("creds/invoices")
			require.Equal(t, []string{"owner"}, read.Data["permissions"])
			require.Equal(t, http.StatusOK, m.QueryInvoices(read.Data["access_token"]))
			require.Empty(t, m.AliveTokens(), "no token stands behind it")
			require.Equal(t, []string{"InvoiceRead"}, m.Must(m.Read("roles/invoices", nil)).Data["permissions"], "for the way back")
		})
	})
	t.Run("granted", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("second", map[string]any{"login": "certificate", "full_rights": true, "nip": enginetest.SecondNIP})
			read := m.AccessToken("creds/second")
			require.Empty(t, read.Warnings)
			require.NotEmpty(t, read.Data["permissions"])
			asked := m.Requests("POST /permissions/query/personal/grants")
			m.AccessToken("creds/second")
			require.Equal(t, asked, m.Requests("POST /permissions/query/personal/grants"), "once per session")
		})
	})
	t.Run("moves_with_the_mount's_certificate", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.AccessRole("invoices", certificate)
			before := m.AccessToken("creds/invoices")
			m.Rotate(nil)
			m.Elapse(10 * time.Minute)
			after := m.AccessToken("creds/invoices")
			require.NotEqual(t, before.Data["session_reference_number"], after.Data["session_reference_number"])
			require.Equal(t, http.StatusOK, m.QueryInvoices(after.Data["access_token"]))
			require.Equal(t, 2, m.OpenSessions(), "that of the mount and that of the role")
		})
	})
}

func TestAccessAfterTheEndOfTokens(t *testing.T) {
	withMountAt(t, "2026-12-31T19:00:00Z", simulator.Options{Tokens: simulator.TokensRefused}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"tokens_accepted_until": "2027-01-01T00:00:00+01:00"}))
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "30m"}))
		m.AccessRole("access", nil)
		leased := m.Must(m.Read("creds/invoices", nil))
		require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/access").Data["access_token"]))
		const oneLine = "credential_type=access_token login=certificate full_rights=true"
		switched := map[string]any{"credential_type": "access_token", "login": "certificate", "full_rights": true}
		m.Must(m.Write("roles/invoices", switched))
		_, err := m.Renew(leased.Secret, 0)
		require.ErrorContains(t, err, "the leases of its tokens end at their time")
		require.NoError(t, m.Revoke(leased.Secret))

		m.Elapse(time.Hour + time.Minute)
		require.Contains(t, m.Refused(m.Read("creds/access", nil)), "vault write ksef/roles/access "+oneLine)
		require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/invoices").Data["access_token"]))
		m.Must(m.Write("roles/access", switched))
		require.Equal(t, http.StatusOK, m.QueryInvoices(m.AccessToken("creds/access").Data["access_token"]))
		m.Elapse(time.Hour)
		require.Empty(t, m.AliveTokens(), "backing tokens are revoked")
	})
}

func TestRightsOfAccessTokensAreAskedOnce(t *testing.T) {
	const grants = "POST /permissions/query/personal/grants"
	for name, fault := range map[string]simulator.Fault{
		"answered":   {Endpoint: grants, Kind: simulator.FaultDelay, Delay: time.Second},
		"unanswered": {Endpoint: grants, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WithMount(t, simulator.Options{Grants: enginetest.SecondGrant()}, func(t *testing.T, m *enginetest.Mount) {
				m.AccessRole("second", map[string]any{"login": "certificate", "full_rights": true, "nip": enginetest.SecondNIP})
				asked := m.Requests(grants)
				m.Fault(fault)
				var readers sync.WaitGroup
				for range 20 {
					readers.Go(func() { m.AccessToken("creds/second") })
				}
				readers.Wait()
				for range 20 {
					m.AccessToken("creds/second")
				}
				require.Equal(t, asked+1, m.Requests(grants))
			})
		})
	}
}
