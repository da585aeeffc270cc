// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// damages are ways to damage an entry; nil makes it undecryptable.
func damages() map[string]func(value []byte) []byte {
	return map[string]func([]byte) []byte{
		"version":   func([]byte) []byte { return []byte(`{"version":2}`) },
		"not_json":  func([]byte) []byte { return []byte("\x00\xffnot JSON") },
		"truncated": func(value []byte) []byte { return value[:len(value)/2] },
		"empty":     func([]byte) []byte { return []byte{} },

		"undecryptable": nil,
	}
}

// entryKind is a kind of storage entry.
type entryKind struct {
	options simulator.Options
	// prepare makes an entry on a mount with one leased token and returns its key.
	prepare func(m *Mount, issued *logical.Response) string
	// check tests the mount that has met the damage.
	check func(m *Mount, issued *logical.Response, key string)
	// recovers is set if the engine replaces or removes the entry by itself.
	recovers bool
}

func entryKinds() map[string]entryKind {
	return map[string]entryKind{
		"issuing":     {prepare: prepareIntent, check: checkIntent},
		"live":        {prepare: firstKey("ledger/live/"), check: checkLive},
		"ending":      {prepare: prepareEnding, check: checkEnding},
		"next_visit":  {prepare: prepareNextCheck, check: checkNextCheck, recovers: true},
		"mount_id":    {prepare: firstKey("mount-id"), check: checkMountID, recovers: true},
		"limits":      {prepare: firstKey("budget/", "Nip:"), check: checkLimits, recovers: true},
		"auth_limits": {prepare: prepareLoginLimits, check: checkIssues, recovers: true},
		"session":     {prepare: firstKey("sessions/"), check: checkSession, recovers: true},
		"unstored":    {prepare: prepareUnstored, check: checkUnstored, recovers: true},
		"login":       {prepare: prepareLogin, check: checkLogin},
		"rotation":    {options: simulator.Options{EnrollmentDelay: 20 * time.Hour}, prepare: prepareRotation, check: checkRotation},
		"role":        {prepare: firstKey("roles/invoices"), check: checkRole},
		"config":      {prepare: firstKey("config"), check: checkConfig},
	}
}

func TestDamagedEntry(t *testing.T) {
	for name, kind := range entryKinds() {
		for how, damage := range damages() {
			t.Run(name+"/"+how, func(t *testing.T) {
				InEnv(t, kind.options, func(_ *testing.T, env *Env) { damageOne(env, kind, damage) })
			})
		}
	}
}

func damageOne(env *Env, kind entryKind, damage func([]byte) []byte) {
	disk := &countingStorage{Storage: &logical.InmemStorage{}}
	m := env.Mount(disk)
	m.Configure()
	issued := m.Issue()
	key := kind.prepare(m, issued)
	m.Stop()
	entry, err := disk.Get(m.Ctx, key)
	require.NoError(m.T, err)
	require.NotNil(m.T, entry, key)
	if damage == nil {
		disk.undecryptable.Store(key)
	} else {
		m.Put(key, damage(entry.Value))
	}
	m.Start()
	defer m.Stop()

	m.Elapse(3 * time.Minute)
	if !strings.HasPrefix(key, "budget/") {
		m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "240h", "max_ttl": "240h"}))
		if key != "config" {
			m.Must(m.Read("creds/other", nil))
		}
	}
	kind.check(m, issued, key)
	before := disk.reads.Load()
	m.Elapse(time.Hour)
	require.Less(m.T, disk.reads.Load()-before, int64(100), "reads in an hour")
	count, _ := m.unreadable()
	require.Zero(m.T, count, "nothing is left of what was mended")
}

// TestDamagedEntryUnknownState stores a record of a state that this version does not know.
func TestDamagedEntryUnknownState(t *testing.T) {
	InEnv(t, simulator.Options{}, func(_ *testing.T, env *Env) {
		damageOne(env, entryKinds()["ending"], func(value []byte) []byte {
			return bytes.Replace(value, []byte(`"revoking"`), []byte(`"suspended"`), 1)
		})
	})
}

// unreadable is the part of the status on unreadable entries.
func (m *Mount) unreadable() (count int, keys []string) {
	m.T.Helper()
	shown, found := m.StatusDetails()["unreadable"].(map[string]any)
	require.True(m.T, found, "status counts unreadable entries")
	return shown["count"].(int), shown["keys"].([]string)
}

func (m *Mount) requireUnreadable(key string) {
	m.T.Helper()
	response := m.Must(m.Read("status", nil))
	count, keys := m.unreadable()
	require.Equal(m.T, 1, count)
	require.Equal(m.T, []string{key}, keys)
	require.Contains(m.T, strings.Join(response.Warnings, " "), key)
}

func firstKey(prefix string, part ...string) func(*Mount, *logical.Response) string {
	return func(m *Mount, _ *logical.Response) string {
		for _, key := range m.Keys(prefix) {
			if len(part) == 0 || strings.Contains(key, part[0]) {
				return key
			}
		}
		return prefix
	}
}

func prepareIntent(m *Mount, _ *logical.Response) string {
	m.Fault(simulator.Fault{Endpoint: IssueEndpoint, Kind: simulator.FaultDropResponse, Times: 1})
	m.Fault(simulator.Fault{Endpoint: "GET /tokens", Kind: simulator.FaultDropRequest, Times: -1})
	_, err := m.Read("creds/invoices", nil)
	require.Error(m.T, err)
	key := firstKey("ledger/issuing/")(m, nil)
	m.KSeF.ClearFaults()
	return key
}

// checkIntent lets tidy find the token of the lost reply.
func checkIntent(m *Mount, _ *logical.Response, key string) {
	m.requireUnreadable(key)
	report := m.Must(m.Write("tidy", map[string]any{"dry_run": false})).Data
	require.Len(m.T, report["orphans"], 1)
	m.Elapse(time.Minute)
	require.Len(m.T, m.AliveTokens(), 2)
	require.NoError(m.T, m.Storage.Delete(m.Ctx, key))
}

// checkLive passes the hour in which the record is checked. Only a request that names its token
// touches it.
func checkLive(m *Mount, issued *logical.Response, key string) {
	m.Elapse(3 * time.Hour)
	m.requireUnreadable(key)
	report := m.Must(m.Write("tidy", map[string]any{"dry_run": false})).Data
	require.Empty(m.T, report["orphans"])
	require.Equal(m.T, []string{key}, report["unreadable"])
	require.NoError(m.T, m.Login(issued.Data["token"]))
	number := issued.Data["reference_number"].(string)
	require.Equal(m.T, "Active", m.Must(m.Read("tokens/"+number, nil)).Data["status"])
	m.Must(m.Delete("tokens/" + number))
	m.RequireLoginRefused(issued.Data["token"])
}

func prepareEnding(m *Mount, issued *logical.Response) string {
	m.Fault(simulator.Fault{Endpoint: RevokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
	require.Error(m.T, m.Revoke(m.Lease(issued)))
	m.KSeF.ClearFaults()
	return firstKey("ledger/ending/")(m, nil)
}

func checkEnding(m *Mount, issued *logical.Response, key string) {
	m.requireUnreadable(key)
	m.Must(m.Write("tidy", map[string]any{"dry_run": false}))
	require.NoError(m.T, m.Login(issued.Data["token"]))
	require.NoError(m.T, m.Revoke(m.Lease(issued)))
	m.RequireLoginRefused(issued.Data["token"])
}

// prepareNextCheck waits until a check has stored the time of the next one.
func prepareNextCheck(m *Mount, issued *logical.Response) string {
	for range 4 {
		m.Elapse(50 * time.Minute)
		m.Must(m.Renew(m.Lease(issued), time.Hour))
	}
	return firstKey("visits/")(m, nil)
}

func checkNextCheck(m *Mount, issued *logical.Response, key string) {
	entry, err := m.Storage.Get(m.Ctx, key)
	require.NoError(m.T, err)
	_, err = time.Parse(time.RFC3339, string(entry.Value))
	require.NoError(m.T, err, "the note has been written anew")
	require.NoError(m.T, m.Login(issued.Data["token"]))
}

// checkMountID finds the old mount id in the mark of a new token.
func checkMountID(m *Mount, issued *logical.Response, _ string) {
	_, mark, _ := strings.Cut(issued.Data["description"].(string), "[vault:")
	id, _, _ := strings.Cut(mark, ":")
	require.Regexp(m.T, "^[0-9a-f]{12}$", id)
	next := m.Must(m.Read("creds/other", nil))
	require.Contains(m.T, next.Data["description"], "[vault:"+id+":")
}

// checkLimits requires that an hour is closed, also in the next process.
func checkLimits(m *Mount, _ *logical.Response, _ string) {
	m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "240h"}))
	for range 3 {
		_, err := m.Read("creds/other", nil)
		require.ErrorContains(m.T, err, "KSeF's limit for POST /tokens is used up")
		m.Elapse(10 * time.Minute)
		m.Stop()
		m.Start()
	}
	m.Elapse(30 * time.Minute)
	m.Must(m.Read("creds/other", nil))
}

// prepareLoginLimits makes the entry that is stored when KSeF has refused a login with 429.
func prepareLoginLimits(m *Mount, _ *logical.Response) string {
	key := firstKey("budget/")(m, nil)
	key = key[:strings.LastIndex(key, "/")] + "/login"
	m.Put(key, []byte(`{"version":1,"account":"a","saved":1,"endpoints":{}}`))
	return key
}

func checkIssues(m *Mount, _ *logical.Response, _ string) {
	m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "240h"}))
	m.Must(m.Read("creds/other", nil))
}

func checkSession(m *Mount, _ *logical.Response, key string) {
	entry, err := m.Storage.Get(m.Ctx, key)
	require.NoError(m.T, err)
	var stored struct{ Version int }
	require.NoError(m.T, json.Unmarshal(entry.Value, &stored))
	require.Equal(m.T, 1, stored.Version)
	require.Len(m.T, m.StatusDetails()["sessions"], 1)
}

// prepareUnstored makes the entry of a session that was lost in the last step of its login.
func prepareUnstored(m *Mount, _ *logical.Response) string {
	m.Must(m.Write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": UnitID}))
	m.Fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropResponse, Times: -1})
	_, err := m.Read("creds/unit", nil)
	require.Error(m.T, err)
	m.KSeF.ClearFaults()
	return firstKey("unstored-sessions/")(m, nil)
}

func checkUnstored(m *Mount, _ *logical.Response, _ string) {
	m.Must(m.Read("creds/unit", nil))
	m.Elapse(time.Minute)
	require.Empty(m.T, m.Keys("unstored-sessions/"))
}

func prepareLogin(m *Mount, _ *logical.Response) string {
	m.Must(m.Write("login/begin", nil))
	return firstKey("logins/")(m, nil)
}

func checkLogin(m *Mount, _ *logical.Response, key string) {
	m.requireUnreadable(key)
	m.Must(m.Write("login/begin", nil))
	require.Len(m.T, m.StatusDetails()["logins"], 1)
}

func prepareRotation(m *Mount, _ *logical.Response) string {
	require.Equal(m.T, "pending", m.Rotate(nil)["status"])
	return "rotation"
}

func checkRotation(m *Mount, _ *logical.Response, key string) {
	m.requireUnreadable(key)
	read := m.Must(m.Read("config", nil))
	require.Contains(m.T, strings.Join(read.Warnings, " "), "force=rotation")
	require.Contains(m.T, m.Refused(m.Write("config/rotate-root", nil)), "force=rotation")
	require.Contains(m.T, m.Refused(m.Write("config", map[string]any{"request_timeout": 20})), "force=rotation")
	require.Contains(m.T, m.Refused(m.Delete("config")), "force=rotation")
	written := m.Must(m.Write("config", map[string]any{"request_timeout": 20, "force": "rotation"}))
	require.Contains(m.T, strings.Join(written.Warnings, " "), "was given up")
	require.Equal(m.T, "pending", m.Rotate(nil)["status"], "another can begin")
	m.Must(m.Write("config", map[string]any{"force": "rotation"}))
}

func checkRole(m *Mount, _ *logical.Response, key string) {
	_, err := m.Read("creds/invoices", nil)
	require.ErrorContains(m.T, err, "write it anew")
	_, err = m.Read(key, nil)
	require.ErrorContains(m.T, err, "write it anew")
	require.Len(m.T, m.Must(m.List("roles/")).Data["keys"], 2)
	m.requireUnreadable(key)
	require.Contains(m.T, m.Refused(m.Write(key, map[string]any{"ttl": "2h"})), "permissions")
	m.Must(m.Write(key, map[string]any{"permissions": "InvoiceRead"}))
	m.Must(m.Read("creds/invoices", nil))
}

func checkConfig(m *Mount, issued *logical.Response, key string) {
	m.requireUnreadable(key)
	_, err := m.Read("config", nil)
	require.ErrorContains(m.T, err, "write it anew")
	require.Contains(m.T, m.Refused(m.Delete("config")), "force=tokens")
	m.Must(m.Request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
	m.Configure()
	require.NoError(m.T, m.Revoke(m.Lease(issued)))
	m.RequireLoginRefused(issued.Data["token"])
}

func TestDamagedEntryRemedy(t *testing.T) {
	WithMount(t, simulator.Options{}, func(t *testing.T, m *Mount) {
		reference := m.Issue().Data["reference_number"].(string)
		m.Must(m.Write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
		require.NoError(t, m.Storage.Put(m.Ctx, &logical.StorageEntry{Key: "roles/other", Value: []byte("garbage")}))
		_, err := m.Read("roles/other", nil)
		require.Error(t, err)
		require.Equal(t, "1 storage entry that cannot be read, and skipped: roles/other. "+
			"Write the role anew with all its fields, or: vault delete ksef/roles/other", m.StatusWarnings())
		require.NotContains(t, m.StatusWarnings(), reference)
		m.Must(m.Delete("roles/other"))
		require.Empty(t, m.StatusWarnings())
	})
}
