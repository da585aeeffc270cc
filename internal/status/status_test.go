// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package status

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/report"

	"github.com/stretchr/testify/require"
)

func TestSummary(t *testing.T) {
	open := ledger.Open{Live: 3, Revoking: 1}
	t.Run("without troubles", func(t *testing.T) {
		data := New("v1").Finish(open).Data
		require.Equal(t, "All is well. Live tokens: 3, revocations in progress: 1.", data["summary"])
		require.Equal(t, "v1", data["plugin_version"])
	})
	t.Run("states the most urgent trouble and counts the others that are warned of", func(t *testing.T) {
		r := New("v1")
		r.Warn(Expiry, "It ends soon.", "it ends")
		r.Warn(Login, "Log in.", "no login", "no login either")
		r.Warn(Config, "Not shown.")
		r.AddTokensEnd(time.Now().Add(-time.Hour), time.Now())
		response := r.Finish(open)
		require.Equal(t, "Log in. Other troubles, in the warnings: 1.", response.Data["summary"])
		require.Equal(t, []string{"it ends", "no login", "no login either"}, response.Warnings)
	})
}

func TestTokens(t *testing.T) {
	refused := &client.InputError{Field: "config", Fault: "is missing", Remedy: "write it"}
	report := func(pending ledger.Pending, unknown ...string) (summary string, warnings []string) {
		r := New("v1")
		r.AddTokens(ledger.Open{Live: 2, Revoking: 1}, pending, unknown)
		response := r.Finish(ledger.Open{})
		require.Equal(t, []any{2, 1, 1}, []any{response.Data["tokens_live"], response.Data["tokens_revoking"], response.Data["revocation_queue_length"]})
		return response.Data["summary"].(string), response.Warnings
	}
	oldest := func(err error) *ledger.PendingError {
		return &ledger.PendingError{ReferenceNumber: "1", Next: time.Now(), Err: err}
	}
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		summary, warnings := report(ledger.Pending{})
		require.Contains(t, summary, "All is well.")
		require.Empty(t, warnings)

		summary, _ = report(ledger.Pending{Oldest: oldest(nil), OldestSince: now})
		require.Contains(t, summary, "All is well.", "Vault itself still tries")
		summary, warnings = report(ledger.Pending{Oldest: oldest(nil), OldestSince: now.Add(-vaultGivesUp - time.Second)})
		require.Contains(t, summary, "nothing to do but wait")
		require.Len(t, warnings, 1)
		summary, _ = report(ledger.Pending{Oldest: oldest(refused), OldestSince: now})
		require.Contains(t, summary, "mend the cause that the warning names")

		summary, warnings = report(ledger.Pending{ReviewErr: errors.New("disk")})
		require.Contains(t, summary, "mend Vault's storage")
		require.Contains(t, warnings[0], "disk")

		summary, warnings = report(ledger.Pending{}, "a", "b", "c", "d", "e")
		require.Contains(t, summary, "KSeF does not know tokens that are to be revoked (5)")
		require.Equal(t, []string{"a", "b", "c", "The same is true of 2 more tokens."}, warnings)
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		key := ratelimit.Key{Context: "Nip:5265877635"}
		r := New("v1")
		r.AddLimits(map[ratelimit.Key][]ratelimit.Usage{key: {
			{Endpoint: "GET /idle", Next: now},
			{Endpoint: client.EndpointGenerateToken, Next: now.Add(ledger.IssueMaxWait + time.Second), Hour: ratelimit.WindowUsage{Used: 120, Limit: 120}},
			{Endpoint: "DELETE /tokens", Next: now, BlockedUntil: now.Add(time.Minute)},
		}})
		response := r.Finish(ledger.Open{})
		shown := r.Details["rate_limits"].([]map[string]any)
		require.Len(t, shown, 2, "idle endpoints are left out")
		require.Equal(t, map[string]any{"used": 120, "free": 0, "limit": 120}, shown[1]["hour"])
		require.Equal(t, InUTC(now.Add(ledger.IssueMaxWait+time.Second)), response.Data["rate_limits_next_request"])
		require.Equal(t, InUTC(now.Add(time.Minute)), response.Data["rate_limits_blocked_until"])
		require.Len(t, response.Warnings, 1)
		require.Contains(t, response.Warnings[0], "KSeF has blocked DELETE /tokens in Nip:5265877635")
		require.Contains(t, response.Data["summary"], "Nothing to do but wait.")
	})
}

func TestRefusedLogins(t *testing.T) {
	r := New("v1")
	r.AddRefusedLogins([]error{errors.New("logging in to KSeF in B: no"), errors.New("logging in to KSeF in A: no")})
	require.Contains(t, r.Finish(ledger.Open{}).Data["summary"], "Logging in to KSeF in A is refused: mend what the warning names")
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := &report.Failure{At: time.Now(), Err: errors.New("lost")}
		report := func() map[string]any {
			r := New("v1")
			r.AddNotices(&client.Warning{At: time.Now(), Endpoint: "POST /tokens", Text: "soon gone"}, failed)
			return r.Finish(ledger.Open{}).Data
		}
		require.Contains(t, report()["summary"], "The last failure")
		require.Equal(t, []any{"lost", "soon gone"}, []any{report()["last_error"], report()["last_warning"]})
		<-time.After(lastErrorMatters)
		require.Contains(t, report()["summary"], "All is well.")
		failed.At, failed.ResolvedAt = time.Now(), time.Now()
		require.Contains(t, report()["summary"], "All is well.")
		require.Equal(t, InUTC(time.Now()), report()["last_error_resolved_at"])
	})
}

func TestUnreadable(t *testing.T) {
	t.Run("names some and counts all", func(t *testing.T) {
		var keys []string
		for i := range maxUnreadableShown + 2 {
			keys = append(keys, fmt.Sprint(i))
		}
		r := New("v1")
		r.AddUnreadable(keys)
		require.Equal(t, len(keys), r.Flat["unreadable_entries"])
		require.Len(t, r.Details["unreadable"].(map[string]any)["keys"], maxUnreadableShown)
		require.Contains(t, r.Response.Warnings[0], "22 storage entries")
		require.Contains(t, r.Response.Warnings[0], " and 2 more.")
	})
	t.Run("has remedies", func(t *testing.T) {
		require.Equal(t, " The token of a live record is revoked with: vault delete <mount>/tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E",
			unreadableRemedies([]string{"ledger/issuing/x", "ledger/live/2025/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E", "config"}))
		require.Contains(t, unreadableRemedies([]string{"rotation"}), "vault write <mount>/config force=rotation")
		require.Empty(t, unreadableRemedies([]string{"config", "sessions/x"}))
	})
	t.Run("is quiet without any", func(t *testing.T) {
		r := New("v1")
		r.AddUnreadable(nil)
		require.Empty(t, r.Response.Warnings)
		require.Equal(t, 0, r.Flat["unreadable_entries"])
	})
}
