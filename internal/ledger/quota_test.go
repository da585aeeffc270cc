// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/quota"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// issueWithin issues a token for an entity within limits.
func (e *env) issueWithin(limits quota.Limits, entity string) (*Issued, error) {
	return e.Issue(e.t.Context(), func() (IssueRequest, error) {
		request, err := e.request(time.Hour)()
		request.Limits, request.EntityID = limits, entity
		return request, err
	})
}

func (e *env) mustIssueWithin(limits quota.Limits) *Issued {
	e.t.Helper()
	issued, err := e.issueWithin(limits, "e1")
	require.NoError(e.t, err)
	return issued
}

// requireRefused checks that a limit refuses a token, and that nothing is sent or written.
func (e *env) requireRefused(limits quota.Limits, entity, field string) {
	e.t.Helper()
	e.disk.mu.Lock()
	before := len(e.disk.writes)
	e.disk.mu.Unlock()
	sent := e.ksef.count("")
	_, err := e.issueWithin(limits, entity)
	var mistake *client.InputError
	require.ErrorAs(e.t, err, &mistake)
	require.Equal(e.t, field, mistake.Field)
	require.Len(e.t, e.disk.writes, before)
	require.Equal(e.t, sent, e.ksef.count(""))
}

func TestQuota(t *testing.T) {
	live, perEntity, hourly := quota.Limits{MaxLive: 2}, quota.Limits{MaxLivePerEntity: 1}, quota.Limits{MaxPerHour: 2}
	bubble(t, "records_of_before_count_for_the_role", func(t *testing.T, e *env) {
		e.putRecord(1, 3, unchanged)
		e.putRecord(2, 3, func(r *Record) { r.State = Revoking })
		e.putRecord(3, 3, func(r *Record) { r.State = Dead })
		e.putRecord(4, 3, func(r *Record) { r.Role = "reports" })
		e.putRecord(5, 3, func(r *Record) { r.Target = secondTarget })
		e.restart()
		e.requireRefused(live, "e1", "max_live")
		_, err := e.issueWithin(perEntity, "e1")
		require.NoError(t, err, "and for no entity")
	})
	bubble(t, "revoked_token_makes_room", func(t *testing.T, e *env) {
		first := e.mustIssueWithin(live)
		e.mustIssueWithin(live)
		e.requireRefused(live, "e1", "max_live")
		require.NoError(t, e.revoke(first.Record.Lease()))
		e.mustIssueWithin(live)
		e.requireRefused(live, "e1", "max_live")
	})
	bubble(t, "token_counts_until_KSeF_confirms_its_end", func(t *testing.T, e *env) {
		issued := e.mustIssueWithin(perEntity)
		e.ksef.fail(&e.ksef.before, "DELETE", lostReply("DELETE"))
		require.Error(t, e.revoke(issued.Record.Lease()))
		e.requireRefused(perEntity, "e1", "max_live_per_entity")
		_, err := e.issueWithin(perEntity, "e2")
		require.NoError(t, err)
		e.ksef.mend()
		e.elapse(5 * time.Minute)
		e.mustIssueWithin(perEntity)
	})
	bubble(t, "lost_reply_counts_until_it_is_settled", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err := e.issueWithin(perEntity, "e1")
		require.Error(t, err)
		e.ksef.mend()
		e.requireRefused(perEntity, "e1", "max_live_per_entity")
		e.elapse(5 * time.Minute)
		e.mustIssueWithin(perEntity)
	})
	bubble(t, "refusal_of_KSeF_takes_no_place", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.before, "POST", refusal("POST", 400))
		for range 3 {
			_, err := e.issueWithin(quota.Limits{MaxLive: 1, MaxPerHour: 1}, "e1")
			require.ErrorAs(t, err, new(*client.APIError))
		}
		e.ksef.mend()
		e.mustIssueWithin(quota.Limits{MaxLive: 1, MaxPerHour: 1})
	})
	bubble(t, "two_at_once_do_not_both_take_the_last_place", func(t *testing.T, e *env) {
		for _, limits := range []quota.Limits{{MaxLive: 3}, {MaxLivePerEntity: 3}, {MaxPerHour: 3}} {
			e.ksef.made = client.StatusPending
			var group sync.WaitGroup
			for range 10 {
				group.Go(func() { _, _ = e.issueWithin(limits, "e1") })
			}
			e.elapse(10 * time.Second)
			require.Len(t, e.ksef.alive(), 3)
			for _, number := range e.ksef.alive() {
				e.ksef.setStatus(number, client.StatusActive)
			}
			group.Wait()
			require.NoError(t, e.RevokeAll(t.Context(), "a test"))
			e.elapse(2 * time.Hour)
			require.Empty(t, e.ksef.alive())
		}
	})
	bubble(t, "hour_counts_what_has_been_revoked", func(t *testing.T, e *env) {
		for range 2 {
			require.NoError(t, e.revoke(e.mustIssueWithin(hourly).Record.Lease()))
			e.elapse(10 * time.Minute)
		}
		require.Empty(t, e.keys(StoragePrefix))
		e.requireRefused(hourly, "e1", "max_per_hour")
		e.restart()
		e.requireRefused(hourly, "e1", "max_per_hour")
		e.elapse(40 * time.Minute)
		e.mustIssueWithin(hourly)
		e.requireRefused(hourly, "e1", "max_per_hour")
	})
	bubble(t, "hour_counts_records_of_before", func(t *testing.T, e *env) {
		e.mustIssue(time.Hour)
		e.mustIssue(time.Hour)
		e.restart()
		require.Empty(t, e.keys(issuedPrefix))
		e.requireRefused(hourly, "e1", "max_per_hour")
	})
	bubble(t, "hour_that_is_over_leaves_no_entry", func(t *testing.T, e *env) {
		require.NoError(t, e.revoke(e.mustIssueWithin(hourly).Record.Lease()))
		require.Len(t, e.keys(issuedPrefix), 1)
		e.elapse(time.Hour)
		e.restart()
		require.Empty(t, e.keys(issuedPrefix))
	})
	for name, change := range map[string]func(string) string{
		"no_JSON":         func(string) string { return "{" },
		"another_version": func(stored string) string { return strings.Replace(stored, `"version":1`, `"version":2`, 1) },
		"another_role":    func(stored string) string { return strings.Replace(stored, `"invoices"`, `"reports"`, 1) },
	} {
		bubble(t, "unreadable_entry_of_the_hour_is_replaced/"+name, func(t *testing.T, e *env) {
			revoke := func(issued *Issued) { require.NoError(t, e.revoke(issued.Record.Lease())) }
			revoke(e.mustIssueWithin(hourly))
			key := e.keys(issuedPrefix)[0]
			entry, err := e.disk.Storage.Get(t.Context(), key)
			require.NoError(t, err)
			damaged := change(string(entry.Value))
			require.NotEqual(t, string(entry.Value), damaged)
			require.NoError(t, e.disk.Storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: []byte(damaged)}))
			e.restart()
			for range 2 {
				revoke(e.mustIssueWithin(hourly))
			}
			e.restart()
			e.requireRefused(hourly, "e1", "max_per_hour")
		})
	}
	bubble(t, "no_token_without_a_record_of_its_hour", func(t *testing.T, e *env) {
		e.disk.failAt = 1
		_, err := e.issueWithin(hourly, "e1")
		require.ErrorIs(t, err, errDisk)
		require.Zero(t, e.ksef.count("POST"))
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "failed_write_is_counted_as_storage_has_it", func(_ *testing.T, e *env) {
		e.mustIssueWithin(live)
		for failed := range 6 {
			e.disk.mu.Lock()
			e.disk.failAt = len(e.disk.writes) + failed + 1
			e.disk.mu.Unlock()
			_, _ = e.issueWithin(quota.Limits{MaxLive: 9}, "e1")
			e.requireTrueCounts()
		}
	})
	bubble(t, "fault_of_storage_refuses", func(t *testing.T, e *env) {
		e.disk.failAt = 1
		_, err := e.issueWithin(live, "e1")
		require.ErrorIs(t, err, errDisk)
		e.disk.failReads(true)
		_, err = e.issueWithin(live, "e1")
		require.ErrorIs(t, err, errDisk)
		e.disk.failReads(false)
		e.mustIssueWithin(live)
	})
}
