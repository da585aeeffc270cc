// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/internal/enginetest"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestStatus(t *testing.T) {
	t.Run("is_flat", testStatusIsFlat)
	t.Run("summary", testStatusSummary)
	t.Run("limits", testStatusLimits)
	t.Run("counts", testStatusCounts)
}

// testStatusIsFlat reads the status of a mount with a value for every field.
func testStatusIsFlat(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *enginetest.Mount) {
		m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite"}))
		m.Refused(m.Read("creds/writer", nil))
		answer := m.Status()
		names := slices.Sorted(maps.Keys(answer))
		require.Equal(t, "verbose", names[len(names)-1], "Vault's CLI prints fields in this order")
		for _, name := range names[:len(names)-1] {
			switch answer[name].(type) {
			case string, int:
			default:
				require.Fail(t, "not one value", "%s: %T", name, answer[name])
			}
		}
		require.Subset(t, names, []string{
			"summary", "tokens_live", "tokens_revoking", "rate_limits_next_request", "revocation_queue_length",
			"certificate_not_after", "last_error", "last_error_at",
		})
		require.Equal(t, []string{"config", "logins", "rate_limits", "revocation_queue", "sessions", "unreadable"},
			slices.Sorted(maps.Keys(m.StatusDetails())))
	})
}

// testStatusSummary adds one trouble after the other. The summary has the most important one.
func testStatusSummary(t *testing.T) {
	t.Run("all_is_well", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			require.Equal(t, "All is well. Live tokens: 1, revocations in progress: 0.", m.StatusSummary())
		})
	})
	t.Run("no_config", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Delete("config"))
			require.Equal(t, "The mount has no configuration: write to config.", m.StatusSummary())
		})
	})
	t.Run("unreadable_config", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Put("config", []byte(`{"version":`))
			m.Stop()
			m.Start()
			require.Equal(t, "The stored configuration cannot be read: write config anew, with all its fields. Other troubles, in the warnings: 1.", m.StatusSummary())
		})
	})
	t.Run("not_logged_in", func(t *testing.T) {
		enginetest.WithoutCredential(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			require.Equal(t, "Nobody is logged in to KSeF: have a person sign the answer of login/begin and bring it to login/complete.", m.StatusSummary())
			m.LogIn(m.Signer(simulator.CertificateOptions{PESEL: enginetest.PESEL}))
			require.Contains(t, m.StatusSummary(), "All is well.")
			require.NotEmpty(t, m.Status()["session_until"])
		})
	})
	t.Run("refused_login", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "nip": "1111111111"}))
			m.Refused(m.Read("creds/other", nil))
			require.Equal(t, "Logging in to KSeF in Nip:1111111111 is refused: mend what the warning names, in KSeF or in config; "+
				"then any write to config has KSeF asked again.", m.StatusSummary())
		})
	})
	t.Run("address_left_out", func(t *testing.T) {
		withAllowedIPs(t, OwnAddress, func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Stop()
			leaveFrom(m.Env, OtherAddress)
			standby := m.Mount(m.Storage)
			defer standby.Stop()
			require.Error(t, standby.Revoke(m.Lease(issued)))
			require.Equal(t, "Logging in to KSeF in Nip:"+enginetest.NIP+" is refused: mend what the warning names, in KSeF or in config; "+
				"then any write to config has KSeF asked again. Other troubles, in the warnings: 1.", standby.StatusSummary())
			m.Elapse(time.Minute)
			require.Contains(t, standby.StatusSummary(), "mend", "the engine does not go on by itself")
		})
	})
	t.Run("address_refused_after_a_login", func(t *testing.T) {
		enginetest.InEnv(t, simulator.Options{}, func(t *testing.T, env *enginetest.Env) {
			leaveTwoWays(env, OwnAddress, OtherAddress)
			m := env.Mount(&logical.InmemStorage{})
			defer m.Stop()
			fields := env.ConfigFields()
			fields["allowed_ips"] = "auto"
			m.Must(m.Write("config", fields))
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Refused(m.Read("creds/invoices", nil))
			require.Equal(t, "KSeF refuses the address of this node also after a new login: mend what the warning names, in KSeF or in config; "+
				"then any write to config has KSeF asked again.", m.StatusSummary())
		})
	})
	t.Run("revocation_that_KSeF_refuses", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Fault(simulator.Fault{Endpoint: enginetest.RevokeEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1})
			require.Error(t, m.Revoke(m.Lease(issued)))
			since := utc(time.Now())
			require.Equal(t, fmt.Sprintf("The token %s could not be revoked since %s: mend the cause that the warning names; a write to config then tries at once.",
				issued.Data["reference_number"], since), m.StatusSummary())
			m.KSeF.ClearFaults()
			m.Must(m.Write("config", nil))
			m.Elapse(time.Second)
			require.Equal(t, "All is well. Live tokens: 0, revocations in progress: 0.", m.StatusSummary())
		})
	})
	t.Run("outage", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			issued := m.Issue()
			m.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropRequest, Times: -1})
			require.Error(t, m.Revoke(m.Lease(issued)))
			require.Contains(t, m.StatusSummary(), "KSeF has not confirmed revocations (1, the oldest since ")
			require.Contains(t, m.StatusSummary(), "nothing to do but wait")
			for range 3 {
				_, err := m.Read("creds/invoices", nil)
				require.Error(t, err)
			}
			require.Equal(t, "KSeF gives no usable answer to requests for tokens: new ones are refused until it does; nothing to do but ask again later. "+
				"Other troubles, in the warnings: 1.", m.StatusSummary())
			m.KSeF.ClearFaults()
			m.Elapse(time.Hour)
			m.Issue()
			require.Equal(t, "All is well. Live tokens: 1, revocations in progress: 0.", m.StatusSummary())
		})
	})
	t.Run("expired_certificate", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Elapse(3 * 365 * 24 * time.Hour)
			require.Contains(t, m.StatusSummary(), "The certificate has expired: ")
		})
	})
	t.Run("failure_that_is_not_over", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{OwnerPermissions: []string{"InvoiceRead"}}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/writer", map[string]any{"permissions": "InvoiceWrite"}))
			m.Refused(m.Read("creds/writer", nil))
			require.Equal(t, "The last failure, of "+utc(time.Now())+", is not known to be over: read last_error and mend what it says, or try again.", m.StatusSummary())
			m.Elapse(25 * time.Hour)
			require.Contains(t, m.StatusSummary(), "All is well.")
		})
	})
}

func testStatusLimits(t *testing.T) {
	t.Run("first_429", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Fault(simulator.Fault{Endpoint: enginetest.IssueEndpoint, Kind: simulator.FaultStatus, Status: http.StatusTooManyRequests, RetryAfter: 600})
			_, err := m.Read("creds/invoices", nil)
			require.ErrorContains(t, err, "429")
			answer := m.Status()
			until := utc(time.Now().Add(601 * time.Second)) // with the margin of 0.1 %, in whole seconds
			require.Equal(t, until, answer["rate_limits_blocked_until"])
			require.Equal(t, until, answer["rate_limits_next_request"])
			require.Contains(t, answer["summary"], "KSeF has blocked POST /tokens in Nip:"+enginetest.NIP+": nothing is sent there before "+until)
			m.Elapse(11 * time.Minute)
			require.Nil(t, m.Status()["rate_limits_blocked_until"])
			require.Equal(t, utc(time.Now()), m.Status()["rate_limits_next_request"])
		})
	})
	t.Run("used_up", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			for range 30 {
				m.Issue()
			}
			answer := m.Status()
			require.Greater(t, answer["rate_limits_next_request"], utc(time.Now().Add(10*time.Second)))
			require.Nil(t, answer["rate_limits_blocked_until"])
			require.Contains(t, answer["summary"], "KSeF's limit of requests for tokens in Nip:"+enginetest.NIP+" is used up: new ones are refused until 2000-01-01T00:01:0")
		})
	})
}

// testStatusCounts counts while a revocation is in flight, before and after it is recorded.
func testStatusCounts(t *testing.T) {
	enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
		m.Issue()
		ending := m.Issue()
		m.Fault(simulator.Fault{Endpoint: enginetest.RevokeEndpoint, Kind: simulator.FaultDelay, Delay: 3 * time.Second})
		done := make(chan error, 1)
		go func() { done <- m.Revoke(m.Lease(ending)) }()
		counts := func() []any {
			answer, tidied := m.Status(), m.Must(m.Write("tidy", nil)).Data
			return []any{answer["tokens_live"], answer["tokens_revoking"], answer["revocation_queue_length"], tidied["revoking"]}
		}
		m.Elapse(time.Second)
		require.Equal(t, []any{1, 1, 1, 1}, counts(), "before it is recorded")
		open, err := ksef.Ledger(m.Backend).CountOpenAt(t.Context(), enginetest.URL)
		require.NoError(t, err)
		require.Equal(t, ledger.Open{Live: 1, Revoking: 1}, open, "for guards")
		require.NoError(t, <-done)
		require.Equal(t, []any{1, 0, 0, 0}, counts())

		stuck := m.Issue()
		m.Fault(simulator.Fault{Endpoint: enginetest.RevokeEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1})
		require.Error(t, m.Revoke(m.Lease(stuck)))
		require.Equal(t, []any{1, 1, 1, 1}, counts(), "when it is recorded")
	})
	t.Run("orphan", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Issue()
			keys, err := logical.CollectKeysWithPrefix(t.Context(), m.Storage, "ledger/live/")
			require.NoError(t, err)
			require.Len(t, keys, 1)
			require.NoError(t, m.Storage.Delete(t.Context(), keys[0]))
			m.Fault(simulator.Fault{Endpoint: enginetest.RevokeEndpoint, Kind: simulator.FaultStatus, Status: http.StatusForbidden, Times: -1})
			for _, step := range []struct {
				dryRun            bool
				orphans, revoking int
			}{{true, 1, 0}, {false, 1, 1}, {true, 0, 1}} {
				report := m.Must(m.Write("tidy", map[string]any{"dry_run": step.dryRun})).Data
				require.Len(t, report["orphans"], step.orphans)
				require.Equal(t, step.revoking, report["revoking"])
				require.Equal(t, step.revoking, m.Status()["tokens_revoking"])
			}
		})
	})
}

// utc is a time as responses show it.
func utc(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// TestStatusWarnsOfWhatKeepsTokensAway has no token that waits for its end, which status warns of
// besides.
func TestStatusWarnsOfWhatKeepsTokensAway(t *testing.T) {
	t.Run("refused_login", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h", "nip": "1111111111"}))
			require.Empty(t, m.StatusWarnings())
			m.Refused(m.Read("creds/other", nil))
			require.Contains(t, m.StatusWarnings(), "logging in to KSeF in Nip:1111111111: KSeF refused the login")
			m.Must(m.Write("config", nil))
			require.Empty(t, m.StatusWarnings())
		})
	})
	t.Run("lost_reply_of_another_signer", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Fault(simulator.Fault{Endpoint: enginetest.IssueEndpoint, Kind: simulator.FaultStatus, Status: http.StatusInternalServerError})
			_, err := m.Read("creds/invoices", nil)
			require.Error(t, err)
			certificate, key := m.NewCertificate(simulator.CertificateOptions{PESEL: enginetest.PESEL})
			m.Must(m.Write("config", map[string]any{"certificate": certificate, "private_key": key}))
			m.Elapse(50 * time.Hour)
			require.Contains(t, m.StatusWarnings(), "whether it exists is unknown until the one that made it is configured")
			text := m.Refused(m.Write("config", map[string]any{"nip": "1111111111"}))
			require.Contains(t, text, "whether it exists is unknown")
			require.NotContains(t, text, "the engine searches for them until")
			m.Configure()
			m.Elapse(2 * time.Hour)
			require.Empty(t, m.StatusWarnings())
			m.RequireEmptyLedger()
		})
	})
	t.Run("outage", func(t *testing.T) {
		enginetest.WithMount(t, simulator.Options{}, func(t *testing.T, m *enginetest.Mount) {
			m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
			m.Fault(simulator.Fault{Endpoint: "*", Kind: simulator.FaultDropResponse, Times: -1})
			for range 3 {
				_, err := m.Read("creds/invoices", nil)
				require.Error(t, err)
			}
			require.Contains(t, m.StatusWarnings(), "The last 3 requests for tokens to KSeF at "+enginetest.URL+" have ended with an unknown outcome.")
			m.KSeF.ClearFaults()
			m.Elapse(time.Minute)
			m.Must(m.Read("creds/invoices", nil))
			require.Empty(t, m.StatusWarnings())
		})
	})
}
