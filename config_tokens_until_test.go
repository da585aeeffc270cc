// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/internal/leases"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const polishMidnight = "2026-12-31T23:00:00Z"

// at lets time pass until a moment.
func at(t *testing.T, moment string) {
	t.Helper()
	to, err := time.Parse(time.RFC3339, moment)
	require.NoError(t, err)
	<-time.After(time.Until(to))
}

// withMountAt is WithMount three hours after a moment.
func withMountAt(t *testing.T, moment string, options simulator.Options, test func(t *testing.T, m *enginetest.Mount)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		at(t, moment)
		env := enginetest.NewEnv(t, options)
		env.Elapse(3 * time.Hour) // KSeF's clock may be behind that of the certificate
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		test(t, m)
		env.RequireNoSecretInLogs()
	})
}

func acceptTokensUntil(m *enginetest.Mount, until any) {
	m.T.Helper()
	m.Must(m.Write("config", map[string]any{"tokens_accepted_until": until}))
}

// shownUntil is the field in a read of config; "" if it is absent.
func shownUntil(m *enginetest.Mount) string {
	m.T.Helper()
	until, shown := m.Must(m.Read("config", nil)).Data["tokens_accepted_until"].(string)
	require.True(m.T, shown)
	return until
}

// endInVault is when Vault ends a lease that is issued now, or renewed by an increment.
func endInVault(m *enginetest.Mount, lease *logical.Secret, increment time.Duration) (end time.Time, warnings []string) {
	m.T.Helper()
	ttl, warnings, err := framework.CalculateTTL(enginetest.MountDefaults(), increment, lease.TTL, 0, lease.MaxTTL, 0, lease.IssueTime)
	require.NoError(m.T, err)
	return time.Now().Add(ttl), warnings
}

func TestTokensUntil(t *testing.T) {
	t.Run("is read as it is written", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.Empty(t, shownUntil(m))
			for _, test := range []struct {
				given any
				read  string
			}{
				{"2026-12-31T23:00:00.5Z", polishMidnight},
				{"1798758000", polishMidnight},
				{1798758000, polishMidnight},
				{float64(1798758000), polishMidnight}, // as a number reaches a plugin's process
				{polishMidnight, polishMidnight},
				{"2027-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"},
			} {
				written := m.Must(m.Write("config", map[string]any{"tokens_accepted_until": test.given}))
				require.Equal(t, test.read, written.Data["tokens_accepted_until"], test.given)
				require.Empty(t, written.Warnings, test.given)
				m.Must(m.Write("config", map[string]any{"activation_timeout": "7s"}))
				require.Equal(t, test.read, shownUntil(m), test.given)
			}
			m.Stop()
			m.Start()
			require.Equal(t, "2027-01-01T00:00:00+01:00", shownUntil(m))
			for _, unset := range []any{"", nil} {
				acceptTokensUntil(m, polishMidnight)
				acceptTokensUntil(m, unset)
				require.Empty(t, shownUntil(m), unset)
			}
		})
	})
	t.Run("is a moment and nothing else", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for _, given := range []any{"2026-12-31", "2026-12-31T23:59:59+24:00", "soon", "2026-12-31T23:59:59", true, 1798758000000, "0001-01-01T00:00:00Z", []any{polishMidnight}, map[string]any{"a": 1}} {
				text := m.Refused(m.Write("config", map[string]any{"tokens_accepted_until": given}))
				require.Contains(t, text, "tokens_accepted_until: is not", given)
				require.Empty(t, shownUntil(m), given)
			}
		})
	})
}

func TestTokensUntilCapsLeases(t *testing.T) {
	for name, ask := range map[string]func(m *enginetest.Mount) *logical.Response{
		"creds": func(m *enginetest.Mount) *logical.Response {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "240h", "max_ttl": "480h"}))
			return m.Must(m.Read("creds/invoices", nil))
		},
		"creds with a ttl beyond the role's": func(m *enginetest.Mount) *logical.Response {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "max_ttl": "240h"}))
			return m.Must(m.Write("creds/invoices", map[string]any{"ttl": "480h"}))
		},
		"tokens": func(m *enginetest.Mount) *logical.Response {
			return m.Must(m.Write("tokens", map[string]any{"permissions": "InvoiceRead", "description": "Report", "ttl": "240h"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			withMountAt(t, "2026-12-31T17:00:00Z", simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
				end := leases.LawfulUntil()
				acceptTokensUntil(m, polishMidnight)
				m.Elapse(700 * time.Millisecond) // Vault counts from whole seconds
				issued := ask(m)
				require.Len(t, issued.Warnings, 1)
				require.Contains(t, issued.Warnings[0], "tokens_accepted_until of config is "+polishMidnight)
				lease := m.Lease(issued)
				expires, own := endInVault(m, lease, 0)
				require.Empty(t, own, "Vault has nothing to add")
				require.WithinRange(t, expires, end.Add(-5*time.Second), end)
				recorded := m.Must(m.Read("tokens/"+issued.Data["reference_number"].(string), nil)).Data["lease_end"].(string)
				require.Less(t, recorded, polishMidnight)

				m.Elapse(150*time.Minute + 300*time.Millisecond)
				for _, increment := range []time.Duration{0, 100 * time.Hour} {
					renewed := m.Must(m.Renew(lease, increment))
					require.Len(t, renewed.Warnings, 1)
					require.Contains(t, renewed.Warnings[0], "tokens_accepted_until of config is "+polishMidnight)
					expires, own = endInVault(m, renewed.Secret, increment)
					require.WithinRange(t, expires, end.Add(-5*time.Second), end)
					require.Equal(t, increment > 0, len(own) == 1, "Vault warns of an increment by itself")
				}
				within := m.Must(m.Renew(lease, time.Minute))
				require.Empty(t, within.Warnings)
				expires, own = endInVault(m, within.Secret, time.Minute)
				require.Empty(t, own)
				require.WithinDuration(t, time.Now().Add(time.Minute), expires, 2*time.Second)
			})
		})
	}
}

func TestTokensUntilNotice(t *testing.T) {
	for _, test := range []struct{ moment, until, want string }{
		{"2026-11-01T22:59:59Z", "", ""},
		{"2026-11-01T23:00:00Z", "", "until 31 December 2026 (" + polishMidnight + ")"},
		{"2026-12-31T22:59:59Z", "", "until 31 December 2026"},
		{"2026-12-31T23:00:00Z", "", ""},
		{"2026-12-01T00:00:00Z", "2027-12-31T23:00:00Z", ""},
		{"2027-11-01T22:59:59Z", "2027-12-31T23:00:00Z", ""},
		{"2027-11-01T23:00:00Z", "2027-12-31T23:00:00Z", "KSeF tokens end at 2027-12-31T23:00:00Z"},
		{"2028-06-01T00:00:00Z", "2027-12-31T23:00:00Z", "KSeF tokens ended at 2027-12-31T23:00:00Z"},
	} {
		t.Run(test.moment+"/until="+test.until, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at(t, test.moment)
				until, _ := time.Parse(time.RFC3339, test.until)
				shown := map[string]any{}
				leases.AddNotice(shown, until, time.Now())
				if test.want == "" {
					require.Empty(t, shown)
					return
				}
				require.Contains(t, shown["tokens_notice"], test.want)
				require.Contains(t, shown["tokens_notice"], "docs/tokens-after-2026.md")
			})
		})
	}
}

func TestTokensUntilInSummary(t *testing.T) {
	withMountAt(t, "2026-12-31T17:00:00Z", simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("config", map[string]any{"tokens_accepted_until": polishMidnight}))
		m.Issue()
		require.Equal(t, "All is well. Live tokens: 1, revocations in progress: 0.", m.StatusSummary())
		m.Elapse(3 * time.Hour)
		m.Refused(m.Read("creds/invoices", nil))
		require.Contains(t, m.StatusSummary(), "No token is issued: tokens_accepted_until is "+polishMidnight)
		require.Empty(t, m.Must(m.Read("status", nil)).Warnings)
		m.Must(m.Write("config", map[string]any{"tokens_accepted_until": ""}))
		require.Contains(t, m.StatusSummary(), "All is well.")
	})
}

func TestTokensUntilOtherLeases(t *testing.T) {
	withMountAt(t, "2026-12-31T17:00:00Z", simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		acceptTokensUntil(m, "2027-12-31T23:00:00Z")
		issued := m.Issue()
		require.Empty(t, issued.Warnings)
		require.Equal(t, time.Hour, issued.Secret.TTL)
		require.Equal(t, 24*time.Hour, issued.Secret.MaxTTL)
		renewed := m.Must(m.Renew(m.Lease(issued), 2*time.Hour))
		require.Empty(t, renewed.Warnings)
		require.Equal(t, 24*time.Hour, renewed.Secret.MaxTTL)
	})
}

// No response has a token that becomes active only at the end.
func TestTokensUntilActivation(t *testing.T) {
	withMountAt(t, "2026-12-31T19:59:50Z", simulator.Options{ActivationDelay: 12 * time.Second}, func(t *testing.T, m *enginetest.Mount) {
		acceptTokensUntil(m, polishMidnight)
		m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
		_, err := m.Read("creds/invoices", nil)
		require.ErrorContains(t, err, "came too late to be of use before "+polishMidnight)
		m.Elapse(time.Minute)
		require.Empty(t, m.AliveTokens())
		sent := m.AllRequests()
		require.Contains(t, m.Refused(m.Read("creds/invoices", nil)), "from then on no KSeF tokens are issued")
		require.Equal(t, sent, m.AllRequests(), "nothing is sent")
	})
}

func TestTokensUntilTurnOfYear(t *testing.T) {
	modes := map[string]simulator.Options{
		"accepted": {Tokens: simulator.TokensAccepted},
		"refused":  {Tokens: simulator.TokensRefused},
		"expiring": {Tokens: simulator.TokensExpiring, TokenValidity: 1},
	}
	for mode, options := range modes {
		for _, moment := range []string{"2026-12-15T12:00:00Z", "2026-12-31T23:59:00+01:00", "2026-12-31T23:59:00Z", "2027-01-02T12:00:00Z"} {
			for _, until := range []string{"", polishMidnight} {
				for _, ahead := range []time.Duration{0, 2 * time.Hour, -2 * time.Hour} {
					if ahead != 0 && !strings.HasPrefix(moment, "2026-12-31") {
						continue // the clocks agree on which side of the turn they are
					}
					name := fmt.Sprintf("%s/%s/until=%s/KSeF's clock ahead by %s", mode, moment, until, ahead)
					t.Run(name, func(t *testing.T) {
						options.ClockOffset = ahead
						turnOfTheYear(t, options, moment, until)
					})
				}
			}
		}
	}
}

func turnOfTheYear(t *testing.T, options simulator.Options, moment, until string) {
	withMountAt(t, "2026-12-03T12:00:00Z", options, func(t *testing.T, m *enginetest.Mount) {
		role := map[string]any{"permissions": "InvoiceRead", "ttl": "744h", "max_ttl": "744h"}
		m.Must(m.Write("roles/invoices", role))
		leased, deleted, ending := m.Must(m.Read("creds/invoices", nil)), m.Must(m.Read("creds/invoices", nil)), m.Must(m.Read("creds/invoices", nil))
		acceptTokensUntil(m, until)
		at(t, moment)
		over := !time.Now().Before(leases.LawfulUntil())
		overAtKSeF := !time.Now().Add(options.ClockOffset).Before(leases.LawfulUntil())

		config, status := m.Must(m.Read("config", nil)), m.Must(m.Read("status", nil))
		for path, shown := range map[string]*logical.Response{"config": config, "status": status} {
			schema.ValidateResponse(t, schema.GetResponseSchema(t, m.Route(path), logical.ReadOperation), shown, true)
			notice, noticed := shown.Data["tokens_notice"]
			require.Equal(t, until != "" || !over, noticed)
			if noticed {
				require.Contains(t, notice, polishMidnight)
				require.Contains(t, notice, "docs/tokens-after-2026.md")
			}
			require.Empty(t, shown.Warnings)
		}
		require.NotContains(t, status.Data, "last_error")

		m.Must(m.Write("roles/new", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
		sent := m.AllRequests()
		response, err := m.Read("creds/new", nil)
		switch {
		case until != "" && over:
			text := m.Refused(response, err)
			require.Contains(t, text, "tokens_accepted_until: is "+polishMidnight)
			require.Contains(t, text, "a KSeF certificate of its own")
			require.Equal(t, sent, m.AllRequests(), "nothing is sent")
		case options.Tokens == simulator.TokensRefused && overAtKSeF:
			require.Contains(t, m.Refused(response, err), "tokeny KSeF nie są wydawane")
		default:
			issued := m.Must(response, err)
			if until != "" {
				require.False(t, time.Now().Add(issued.Secret.TTL).After(leases.LawfulUntil()))
			}
			require.NoError(t, m.Revoke(m.Lease(issued)))
		}

		lease := m.Lease(leased)
		lease.IssueTime = time.Now().Add(-time.Minute)
		renewed, err := m.Renew(lease, time.Hour)
		if until != "" && over {
			require.ErrorContains(t, err, "the lease cannot be renewed and ends at its time")
		} else {
			end, _ := endInVault(m, m.Must(renewed, err).Secret, time.Hour)
			require.False(t, until != "" && end.After(leases.LawfulUntil()))
		}
		requireQuietEnd(m, leased, deleted, ending)
	})
}

// requireQuietEnd ends leases in three ways: by Vault, after a deletion by hand, and by the
// reconciler when Vault never asks. KSeF may have ended the tokens before.
func requireQuietEnd(m *enginetest.Mount, leased, deleted, forgotten *logical.Response) {
	m.T.Helper()
	before, hadError := m.Must(m.Read("status", nil)).Data["last_error"]
	require.NoError(m.T, m.Revoke(m.Lease(leased)))
	m.Must(m.Delete("tokens/" + deleted.Data["reference_number"].(string)))
	require.NoError(m.T, m.Revoke(m.Lease(deleted)))
	m.Elapse(time.Until(time.Date(2027, time.January, 5, 0, 0, 0, 0, time.UTC)))
	for _, one := range []*logical.Response{leased, deleted, forgotten} {
		require.Contains(m.T, []string{"Revoked", "Revoking"}, m.StatusInKSeF(one.Data["reference_number"]))
	}
	require.NoError(m.T, m.Revoke(m.Lease(forgotten)))
	status := m.Must(m.Read("status", nil))
	require.Empty(m.T, status.Warnings)
	after, hasError := status.Data["last_error"]
	require.Equal(m.T, hadError, hasError, "%v", after)
	require.Equal(m.T, before, after)
	require.Zero(m.T, m.CountEvents("ksef/token-revoke-fail"))
	require.Zero(m.T, m.CountEvents("ksef/token-revoke-wait"))
	m.Elapse(5 * enginetest.Day)
	m.RequireEmptyLedger()
}
