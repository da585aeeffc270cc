// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// damages are what can become of an entry; nil is one that Vault cannot decrypt.
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
	prepare func(m *mount, issued *logical.Response) string
	// check holds what must be true of the kind on the mount that has met the damage.
	check func(m *mount, issued *logical.Response, key string)
	// heals says that the engine replaces or removes the entry by itself.
	heals bool
}

func entryKinds() map[string]entryKind {
	return map[string]entryKind{
		"issuing":     {prepare: prepareIntent, check: checkIntent},
		"live":        {prepare: firstKey("ledger/live/"), check: checkLive},
		"ending":      {prepare: prepareEnding, check: checkEnding},
		"next_visit":  {prepare: prepareNextCheck, check: checkNextCheck, heals: true},
		"mount_id":    {prepare: firstKey("mount-id"), check: checkMountID, heals: true},
		"limits":      {prepare: firstKey("budget/", "Nip:"), check: checkLimits, heals: true},
		"auth_limits": {prepare: prepareLoginLimits, check: checkIssues, heals: true},
		"session":     {prepare: firstKey("sessions/"), check: checkSession, heals: true},
		"unstored":    {prepare: prepareUnstored, check: checkUnstored, heals: true},
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
				inEnv(t, kind.options, func(_ *testing.T, w *env) { damageOne(w, kind, damage) })
			})
		}
	}
}

func damageOne(w *env, kind entryKind, damage func([]byte) []byte) {
	disk := &countingDisk{Storage: &logical.InmemStorage{}}
	m := w.mount(disk)
	m.configure()
	issued := m.issue()
	key := kind.prepare(m, issued)
	m.stop()
	entry, err := disk.Get(m.ctx, key)
	require.NoError(m.t, err)
	require.NotNil(m.t, entry, key)
	if damage == nil {
		disk.undecryptable.Store(key)
	} else {
		m.put(key, damage(entry.Value))
	}
	m.start()
	defer m.stop()

	m.elapse(3 * time.Minute)
	if !strings.HasPrefix(key, "budget/") {
		m.must(m.write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "240h", "max_ttl": "240h"}))
		if key != "config" {
			m.must(m.read("creds/other", nil))
		}
	}
	kind.check(m, issued, key)
	before := disk.reads.Load()
	m.elapse(time.Hour)
	require.Less(m.t, disk.reads.Load()-before, int64(100), "reads in an hour")
	count, _ := m.unreadable()
	require.Zero(m.t, count, "nothing is left of what was mended")
}

// TestDamagedEntry_unknownState has a record of a state that this version does not know.
func TestDamagedEntry_unknownState(t *testing.T) {
	inEnv(t, simulator.Options{}, func(_ *testing.T, w *env) {
		damageOne(w, entryKinds()["ending"], func(value []byte) []byte {
			return bytes.Replace(value, []byte(`"revoking"`), []byte(`"suspended"`), 1)
		})
	})
}

// unreadable is what status says of entries that cannot be read.
func (m *mount) unreadable() (count int, keys []string) {
	m.t.Helper()
	shown, told := m.statusDetails()["unreadable"].(map[string]any)
	require.True(m.t, told, "status tells of unreadable entries")
	return shown["count"].(int), shown["keys"].([]string)
}

func (m *mount) requireUnreadable(key string) {
	m.t.Helper()
	response := m.must(m.read("status", nil))
	count, keys := m.unreadable()
	require.Equal(m.t, 1, count)
	require.Equal(m.t, []string{key}, keys)
	require.Contains(m.t, strings.Join(response.Warnings, " "), key)
}

func (m *mount) put(key string, value []byte) {
	require.NoError(m.t, m.storage.Put(m.ctx, &logical.StorageEntry{Key: key, Value: value}))
}

func (m *mount) keys(prefix string) []string {
	keys, err := logical.CollectKeysWithPrefix(context.Background(), m.storage, prefix)
	require.NoError(m.t, err)
	return keys
}

func firstKey(prefix string, part ...string) func(*mount, *logical.Response) string {
	return func(m *mount, _ *logical.Response) string {
		for _, key := range m.keys(prefix) {
			if len(part) == 0 || strings.Contains(key, part[0]) {
				return key
			}
		}
		return prefix
	}
}

func prepareIntent(m *mount, _ *logical.Response) string {
	m.fault(simulator.Fault{Endpoint: issueEndpoint, Kind: simulator.FaultDropReply, Times: 1})
	m.fault(simulator.Fault{Endpoint: "GET /tokens", Kind: simulator.FaultDropRequest, Times: -1})
	_, err := m.read("creds/invoices", nil)
	require.Error(m.t, err)
	key := firstKey("ledger/issuing/")(m, nil)
	m.ksef.ClearFaults()
	return key
}

// checkIntent has tidy find the token that the lost reply was about.
func checkIntent(m *mount, _ *logical.Response, key string) {
	m.requireUnreadable(key)
	report := m.must(m.write("tidy", map[string]any{"dry_run": false})).Data
	require.Len(m.t, report["orphans"], 1)
	m.elapse(time.Minute)
	require.Len(m.t, m.aliveTokens(), 2)
	require.NoError(m.t, m.storage.Delete(m.ctx, key))
}

// checkLive comes to the hour in which the record is looked at; its token is not touched but by
// name.
func checkLive(m *mount, issued *logical.Response, key string) {
	m.elapse(3 * time.Hour)
	m.requireUnreadable(key)
	report := m.must(m.write("tidy", map[string]any{"dry_run": false})).Data
	require.Empty(m.t, report["orphans"])
	require.Equal(m.t, []string{key}, report["unreadable"])
	require.NoError(m.t, m.login(issued.Data["token"]))
	number := issued.Data["reference_number"].(string)
	require.Equal(m.t, "Active", m.must(m.read("tokens/"+number, nil)).Data["status"])
	m.must(m.delete("tokens/" + number))
	m.requireLoginRefused(issued.Data["token"])
}

func prepareEnding(m *mount, issued *logical.Response) string {
	m.fault(simulator.Fault{Endpoint: revokeEndpoint, Kind: simulator.FaultDropRequest, Times: -1})
	require.Error(m.t, m.revoke(m.lease(issued)))
	m.ksef.ClearFaults()
	return firstKey("ledger/ending/")(m, nil)
}

func checkEnding(m *mount, issued *logical.Response, key string) {
	m.requireUnreadable(key)
	m.must(m.write("tidy", map[string]any{"dry_run": false}))
	require.NoError(m.t, m.login(issued.Data["token"]))
	require.NoError(m.t, m.revoke(m.lease(issued)))
	m.requireLoginRefused(issued.Data["token"])
}

// prepareNextCheck comes to where a visit notes the next one.
func prepareNextCheck(m *mount, issued *logical.Response) string {
	for range 4 {
		m.elapse(50 * time.Minute)
		m.must(m.renew(m.lease(issued), time.Hour))
	}
	return firstKey("visits/")(m, nil)
}

func checkNextCheck(m *mount, issued *logical.Response, key string) {
	entry, err := m.storage.Get(m.ctx, key)
	require.NoError(m.t, err)
	_, err = time.Parse(time.RFC3339, string(entry.Value))
	require.NoError(m.t, err, "the note has been written anew")
	require.NoError(m.t, m.login(issued.Data["token"]))
}

// checkMountID finds the mark of before in what is issued after.
func checkMountID(m *mount, issued *logical.Response, _ string) {
	_, mark, _ := strings.Cut(issued.Data["description"].(string), "[vault:")
	id, _, _ := strings.Cut(mark, ":")
	require.Regexp(m.t, "^[0-9a-f]{12}$", id)
	next := m.must(m.read("creds/other", nil))
	require.Contains(m.t, next.Data["description"], "[vault:"+id+":")
}

// checkLimits holds that an hour is closed, for the next process too.
func checkLimits(m *mount, _ *logical.Response, _ string) {
	m.must(m.write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "240h"}))
	for range 3 {
		_, err := m.read("creds/other", nil)
		require.ErrorContains(m.t, err, "KSeF's limit for POST /tokens is used up")
		m.elapse(10 * time.Minute)
		m.stop()
		m.start()
	}
	m.elapse(30 * time.Minute)
	m.must(m.read("creds/other", nil))
}

// prepareLoginLimits makes the entry that is written where KSeF has refused a login with a 429.
func prepareLoginLimits(m *mount, _ *logical.Response) string {
	key := firstKey("budget/")(m, nil)
	key = key[:strings.LastIndex(key, "/")] + "/login"
	m.put(key, []byte(`{"version":1,"account":"a","saved":1,"endpoints":{}}`))
	return key
}

func checkIssues(m *mount, _ *logical.Response, _ string) {
	m.must(m.write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "240h"}))
	m.must(m.read("creds/other", nil))
}

func checkSession(m *mount, _ *logical.Response, key string) {
	entry, err := m.storage.Get(m.ctx, key)
	require.NoError(m.t, err)
	var stored struct{ Version int }
	require.NoError(m.t, json.Unmarshal(entry.Value, &stored))
	require.Equal(m.t, 1, stored.Version)
	require.Len(m.t, m.statusDetails()["sessions"], 1)
}

// prepareUnstored makes the number of a session that was lost in the last step of its login.
func prepareUnstored(m *mount, _ *logical.Response) string {
	m.must(m.write("roles/unit", map[string]any{"permissions": "InvoiceRead", "internal_id": unitContext}))
	m.fault(simulator.Fault{Endpoint: "POST /auth/token/redeem", Kind: simulator.FaultDropReply, Times: -1})
	_, err := m.read("creds/unit", nil)
	require.Error(m.t, err)
	m.ksef.ClearFaults()
	return firstKey("unstored-sessions/")(m, nil)
}

func checkUnstored(m *mount, _ *logical.Response, _ string) {
	m.must(m.read("creds/unit", nil))
	m.elapse(time.Minute)
	require.Empty(m.t, m.keys("unstored-sessions/"))
}

func prepareLogin(m *mount, _ *logical.Response) string {
	m.must(m.write("login/begin", nil))
	return firstKey("logins/")(m, nil)
}

func checkLogin(m *mount, _ *logical.Response, key string) {
	m.requireUnreadable(key)
	m.must(m.write("login/begin", nil))
	require.Len(m.t, m.statusDetails()["logins"], 1)
}

func prepareRotation(m *mount, _ *logical.Response) string {
	require.Equal(m.t, "pending", m.rotate(nil)["status"])
	return "rotation"
}

func checkRotation(m *mount, _ *logical.Response, key string) {
	m.requireUnreadable(key)
	read := m.must(m.read("config", nil))
	require.Contains(m.t, strings.Join(read.Warnings, " "), "force=rotation")
	require.Contains(m.t, m.refused(m.write("config/rotate-root", nil)), "force=rotation")
	require.Contains(m.t, m.refused(m.write("config", map[string]any{"request_timeout": 20})), "force=rotation")
	require.Contains(m.t, m.refused(m.delete("config")), "force=rotation")
	written := m.must(m.write("config", map[string]any{"request_timeout": 20, "force": "rotation"}))
	require.Contains(m.t, strings.Join(written.Warnings, " "), "was given up")
	require.Equal(m.t, "pending", m.rotate(nil)["status"], "another can begin")
	m.must(m.write("config", map[string]any{"force": "rotation"}))
}

func checkRole(m *mount, _ *logical.Response, key string) {
	_, err := m.read("creds/invoices", nil)
	require.ErrorContains(m.t, err, "write it anew")
	_, err = m.read(key, nil)
	require.ErrorContains(m.t, err, "write it anew")
	require.Len(m.t, m.must(m.list("roles/")).Data["keys"], 2)
	m.requireUnreadable(key)
	require.Contains(m.t, m.refused(m.write(key, map[string]any{"ttl": "2h"})), "permissions")
	m.must(m.write(key, map[string]any{"permissions": "InvoiceRead"}))
	m.must(m.read("creds/invoices", nil))
}

func checkConfig(m *mount, issued *logical.Response, key string) {
	m.requireUnreadable(key)
	_, err := m.read("config", nil)
	require.ErrorContains(m.t, err, "write it anew")
	require.Contains(m.t, m.refused(m.delete("config")), "force=tokens")
	m.must(m.request(logical.DeleteOperation, "config", map[string]any{"force": "tokens"}))
	m.configure()
	require.NoError(m.t, m.revoke(m.lease(issued)))
	m.requireLoginRefused(issued.Data["token"])
}

func TestUnreadableEntryHasItsOwnRemedy(t *testing.T) {
	withMount(t, simulator.Options{}, func(t *testing.T, m *mount) {
		reference := m.issue().Data["reference_number"].(string)
		m.must(m.write("roles/other", map[string]any{"permissions": "InvoiceRead", "ttl": "1h"}))
		require.NoError(t, m.storage.Put(m.ctx, &logical.StorageEntry{Key: "roles/other", Value: []byte("garbage")}))
		_, err := m.read("roles/other", nil)
		require.Error(t, err)
		require.Equal(t, "1 storage entry that cannot be read, and skipped: roles/other. "+
			"Write the role anew with all its fields, or: vault delete ksef/roles/other", m.statusWarnings())
		require.NotContains(t, m.statusWarnings(), reference)
		m.must(m.delete("roles/other"))
		require.Empty(t, m.statusWarnings())
	})
}

func TestUnreadableRemedies(t *testing.T) {
	require.Equal(t, " The token of a live record is revoked with: vault delete <mount>/tokens/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E",
		unreadableRemedies([]string{"ledger/issuing/x", "ledger/live/2025/20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E", "config"}))
	require.Contains(t, unreadableRemedies([]string{"rotation"}), "vault write <mount>/config force=rotation")
	require.Empty(t, unreadableRemedies([]string{"config", "sessions/x"}))
}
