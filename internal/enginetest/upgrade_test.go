// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/simulator"
	"vault-plugin-secrets-ksef/simulator/xadestest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestUpgrade starts the engine on storages that former commits have written.
func TestUpgrade(t *testing.T) {
	for name, test := range map[string]struct {
		archive string
		check   func(t *testing.T, m *upgraded)
	}{
		"lease_renewed_and_revoked":     {"leases", upgradeRenewed},
		"lease_renewed_by_its_role":     {"leases", upgradeRenewedByRole},
		"lease_without_role":            {"leases", upgradeWithoutRole},
		"lease_of_expiring_token":       {"leases", upgradeExpiring},
		"lease_revoked":                 {"leases", upgradeLive},
		"lease_lost":                    {"leases", upgradeOverdue},
		"issuing_found_and_revoked":     {"leases", upgradeIssuing},
		"revoking_goes_on":              {"leases", upgradeRevoking},
		"revoking_without_owner":        {"leases", upgradeUnowned},
		"revoking_unknown_to_ksef":      {"leases", upgradeUnknown},
		"dead_ends_without_request":     {"leases", upgradeDead},
		"session_used":                  {"leases", upgradeSession},
		"tokens_read":                   {"leases", upgradeTokensRead},
		"mount_id_kept":                 {"leases", upgradeMountID},
		"config_and_role_read":          {"config", upgradeConfig},
		"config_of_environment_read":    {"environment", func(_ *testing.T, m *upgraded) { m.requireResponse("config") }},
		"unstored_session_ended":        {"unstored", upgradeUnstored},
		"external_session_used":         {"external", upgradeExternalSession},
		"external_login_signed":         {"external", upgradeExternalSigned},
		"limits_exhausted":              {"limits", upgradeLimits},
		"limits_of_a_crash":             {"limits-crash", upgradeLimitsCrash},
		"limits_blocked":                {"limits-block", upgradeLimitsBlock},
		"limits_blocked_for_logins":     {"limits-block", upgradeLimitsBlockLogins},
		"rotation_retire_ends_sessions": {"rotation-retire", upgradeRetire},
		"rotation_made_certificate":     {"rotation-retire", upgradeMadeCertificate},
		"rotation_outcomes_read":        {"rotation-done", upgradeOutcomes},
		"static_token_kept":             {"unleased", upgradeStatic},
		"backing_token_kept":            {"unleased", upgradeBacking},
	} {
		t.Run(name, func(t *testing.T) { afterUpgrade(t, test.archive, test.check) })
	}
	t.Run("external_login_pending", upgradeExternalPending)
	t.Run("next_check_kept", upgradeNextCheck)
	t.Run("rotation", upgradeRotation)
}

func upgradeRenewed(t *testing.T, m *upgraded) {
	response, err := m.Renew(m.lease("renewed"), time.Hour)
	require.NoError(t, err)
	require.Equal(t, time.Hour, response.Secret.TTL)
	m.requireKept("ledger/live/040339/${renewed}", "deadline")
	token := m.Must(m.Read("tokens/"+m.number("renewed"), nil)).Data
	require.Equal(t, time.Now().Add(time.Hour).UTC().Format(time.RFC3339), token["lease_end"])
	m.Elapse(59 * time.Minute)
	require.Equal(t, "Active", m.StatusInKSeF(m.number("renewed")))
	m.requireRevokedOnce("renewed")
}

// upgradeRenewedByRole has a role whose ttl was changed since.
func upgradeRenewedByRole(t *testing.T, m *upgraded) {
	m.Must(m.Write("roles/invoices", map[string]any{"ttl": "2h"}))
	response, err := m.Renew(m.lease("live"), 0)
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, response.Secret.TTL)
}

// upgradeWithoutRole has a token that was issued by a write to tokens: the lease itself says how
// long it may last.
func upgradeWithoutRole(t *testing.T, m *upgraded) {
	response, err := m.Renew(m.lease("without role"), 0)
	require.NoError(t, err)
	require.Equal(t, 30*time.Minute, response.Secret.TTL)
	require.Equal(t, 3*time.Hour, response.Secret.MaxTTL)
	m.requireRevokedOnce("without role")
}

// upgradeExpiring has a token that KSeF ends by itself, so that no renewal goes beyond that.
func upgradeExpiring(t *testing.T, m *upgraded) {
	end, err := time.Parse(time.RFC3339, m.former.field("ledger/live/04033c/${expiring}", "valid_until").(string))
	require.NoError(t, err)
	response, err := m.Renew(m.lease("expiring"), 20*time.Hour)
	require.NoError(t, err)
	require.LessOrEqual(t, response.Secret.TTL, time.Until(end))
	m.requireKept("ledger/live/04033c/${expiring}", "deadline")
}

func upgradeLive(_ *testing.T, m *upgraded) {
	m.requireRevokedOnce("live")
	m.requireNoLogin()
}

// requireRevokedOnce ends a lease. It needs one request, and nothing of the token is left.
func (m *upgraded) requireRevokedOnce(name string) {
	m.T.Helper()
	require.NoError(m.T, m.Revoke(m.lease(name)))
	m.Elapse(2 * time.Second)
	require.Equal(m.T, "Revoked", m.StatusInKSeF(m.number(name)))
	require.Equal(m.T, 1, m.deletions(name))
	m.requireNoRecord(name)
}

func (m *upgraded) requireNoRecord(name string) {
	m.T.Helper()
	require.NotContains(m.T, strings.Join(m.Keys("ledger/"), " "), m.number(name))
}

// upgradeOverdue has a lease that Vault has lost: it ends at 04:20, and an hour later its token.
func upgradeOverdue(t *testing.T, m *upgraded) {
	m.Elapse(110 * time.Minute)
	require.Equal(t, "Active", m.StatusInKSeF(m.number("overdue")))
	m.Elapse(20 * time.Minute)
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("overdue")))
	require.Equal(t, 1, m.deletions("overdue"))
}

func upgradeIssuing(t *testing.T, m *upgraded) {
	m.Elapse(2 * time.Minute)
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("intent")))
	require.Equal(t, 1, m.deletions("intent"))
	require.Empty(t, m.Keys("ledger/issuing/"))
	m.requireNoRecord("intent")
}

func upgradeRevoking(t *testing.T, m *upgraded) {
	m.Elapse(2 * time.Minute)
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("revoking")))
	m.requireKept("ledger/ending/${revoking}", "state", "ended")
	require.NoError(t, m.Revoke(m.lease("revoking")))
	require.Equal(t, 1, m.deletions("revoking"))
	m.requireNoRecord("revoking")
}

// upgradeUnowned has a token that was never returned. No lease will ask for its record.
func upgradeUnowned(t *testing.T, m *upgraded) {
	m.Elapse(2 * time.Minute)
	require.Equal(t, "Revoked", m.StatusInKSeF(m.number("unowned")))
	require.Equal(t, 1, m.deletions("unowned"))
	m.requireNoRecord("unowned")
}

// upgradeUnknown has a token that KSeF has not known since 00:00:01. It counts as dead a day later.
func upgradeUnknown(t *testing.T, m *upgraded) {
	secret := m.lease("unknown")
	m.Elapse(time.Minute)
	queue := m.StatusDetails()["revocation_queue"].(map[string]any)
	require.Equal(t, "2000-01-01T00:00:01Z", queue["oldest"].(map[string]any)["since"])
	m.Elapse(20 * time.Hour)
	require.Error(t, m.Revoke(secret))
	m.Elapse(3 * time.Hour)
	require.NoError(t, m.Revoke(secret))
}

func upgradeDead(t *testing.T, m *upgraded) {
	require.NoError(t, m.Revoke(m.lease("dead")))
	require.Zero(t, m.deletions("dead"))
	m.requireNoRecord("dead")
}

func upgradeSession(t *testing.T, m *upgraded) {
	issued := m.Must(m.Read("creds/invoices", nil))
	require.NoError(t, m.Revoke(m.Lease(issued)))
	m.Elapse(6 * Day)
	m.requireNoLogin()
	require.Len(t, m.StatusDetails()["sessions"], 1)
	require.Contains(t, toJSON(m.T, m.StatusDetails()["sessions"]), "2000-01-08T00:00:01Z")
}

func upgradeTokensRead(t *testing.T, m *upgraded) {
	for _, name := range []string{"renewed", "live", "overdue"} {
		m.requireResponse("tokens/${" + name + "}")
	}
	m.Elapse(2 * time.Minute)
	for name, cause := range map[string]string{"dead": "it was deleted by hand", "revoking": "the lease has ended"} {
		token := m.Must(m.Read("tokens/"+m.number(name), nil)).Data
		require.Equal(t, "dead", token["state"])
		require.Contains(t, m.Stored("ledger/ending/"+m.number(name)), `"cause":"`+cause+`"`)
	}
}

func upgradeMountID(t *testing.T, m *upgraded) {
	issued := m.Must(m.Read("creds/invoices", nil))
	require.Contains(t, issued.Data["description"], "[vault:"+strings.TrimSpace(m.former.text("mount-id"))+":")
}

// upgradeNextCheck has a bucket that was written to be checked at 03:30:12, and by its name would
// be checked at once.
func upgradeNextCheck(t *testing.T) {
	inFormer(t, "leases", simulator.Options{}, func(t *testing.T, f *former) {
		disk := &readStorage{Storage: f.storage}
		f.storage = disk
		m := f.start()
		defer m.Stop()
		m.Elapse(8 * time.Minute)
		require.Zero(t, disk.reads("ledger/live/040339/"))
		m.Elapse(2 * time.Minute)
		require.Positive(t, disk.reads("ledger/live/040339/"))
	})
}

// upgradeConfig has a configuration with all its fields. Their fingerprint leads to the session.
func upgradeConfig(t *testing.T, m *upgraded) {
	m.requireResponse("config")
	m.requireResponse("roles/unit")
	m.Must(m.Write("roles/own", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
	m.Must(m.Read("creds/own", nil))
	m.requireNoLogin()
	require.Zero(t, m.former.sent.count(client.EndpointRefresh), "the access token is still valid")
}

// upgradeUnstored has the number of a session that was lost in the last step of its login.
func upgradeUnstored(t *testing.T, m *upgraded) {
	require.True(t, m.isOpen(m.number("lost")))
	m.Elapse(6 * time.Minute)
	m.Must(m.Read("creds/unit", nil))
	m.Elapse(time.Minute)
	require.False(t, m.isOpen(m.number("lost")))
	require.Empty(t, m.Keys("unstored-sessions/"))
}

// isOpen reports whether a session in KSeF can be used.
func (m *upgraded) isOpen(number string) bool {
	for _, one := range m.KSeF.State().Sessions {
		if one.ReferenceNumber == number {
			return one.Active
		}
	}
	return false
}

func upgradeExternalSession(t *testing.T, m *upgraded) {
	m.Must(m.Read("creds/invoices", nil))
	_, err := m.Renew(m.lease("live"), time.Hour)
	require.NoError(t, err)
	m.requireRevokedOnce("live")
	m.requireNoLogin()
}

// upgradeExternalSigned completes a login that was begun before.
func upgradeExternalSigned(t *testing.T, m *upgraded) {
	document := m.former.signer.SignAs(t, xadestest.Request{
		Challenge: m.former.values["challenge"], Context: "<Nip>" + NIP + "</Nip>", Layout: xadestest.DSS(),
	})
	m.Must(m.CompleteLogin(document))
	m.requireNoLogin()
	m.Elapse(time.Minute)
	require.False(t, m.isOpen(m.number("session")), "the new session replaces the former one")
	m.Must(m.Read("creds/invoices", nil))
}

// upgradeExternalPending has a login that KSeF decides after the upgrade.
func upgradeExternalPending(t *testing.T) {
	inFormer(t, "external", simulator.Options{}, func(t *testing.T, f *former) {
		network := f.ThroughNetwork()
		f.beforeStart = func() { network.DelayLogins(5 * time.Minute) }
		m := f.start()
		defer m.Stop()
		for _, kind := range []string{"sessions", "logins"} {
			// A field of the response has another name now.
			text := strings.ReplaceAll(f.text("response "+kind), `"signed_outside"`, `"external"`)
			former := decodeList(t, f.fill(text))
			require.ElementsMatch(t, former, decodeList(t, toJSON(f.T, m.StatusDetails()[kind])))
		}
		m.Elapse(10 * time.Minute)
		m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": UnitID}))
		m.Must(m.Read("creds/unit", nil))
		m.requireNoLogin()
		require.Contains(m.T, toJSON(m.T, m.storedSessionNumbers()), m.number("login"))
	})
}

func (m *upgraded) storedSessionNumbers() []string {
	var numbers []string
	for _, stored := range m.storedSessions() {
		numbers = append(numbers, stored.ReferenceNumber)
	}
	return numbers
}

// readStorage keeps the keys that are read.
type readStorage struct {
	logical.Storage
	mu   sync.Mutex
	keys []string
}

// Get implements logical.Storage.
func (s *readStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.mu.Lock()
	s.keys = append(s.keys, key)
	s.mu.Unlock()
	return s.Storage.Get(ctx, key)
}

// reads counts the reads below a prefix.
func (s *readStorage) reads(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	for _, key := range s.keys {
		if strings.HasPrefix(key, prefix) {
			count++
		}
	}
	return count
}
