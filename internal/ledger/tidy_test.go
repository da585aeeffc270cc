// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// foreign are descriptions of tokens that this mount has not made.
func foreign(mountID, nonce string) []string {
	return []string{
		"Report",
		"Report " + marker("fedcba987654", nonce),
		"Report " + marker(mountID, nonce) + " copied",
		"Report [vault:" + mountID + ":]",
		"Report [vault:" + mountID + ":" + nonce[1:] + "]",
		"Report " + marker(mountID, newImportedNonce()),
		nonce,
		"Report " + marker(mountID, nonce) + " " + marker("fedcba987654", nonce),
	}
}

func TestForeign(t *testing.T) {
	bubble(t, "never_touched", func(t *testing.T, e *env) {
		mountID, err := e.id(t.Context())
		require.NoError(t, err)
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err = e.issue(time.Hour)
		var lost *LostReplyError
		require.ErrorAs(t, err, &lost)
		e.ksef.mend()
		var others []string
		for _, description := range foreign(mountID, lost.Nonce) {
			others = append(others, e.ksef.add(description, client.StatusActive))
		}
		slices.Reverse(others)
		e.mustIssue(time.Hour)

		e.elapse(time.Minute) // the search for the lost token
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, len(others), report.Foreign)
		require.Equal(t, 1, report.Known)
		require.Empty(t, report.Orphans)
		e.elapse(24 * time.Hour) // the overdue one
		require.NoError(t, e.RevokeAll(t.Context(), "the mount is disabled"))
		e.elapse(time.Hour)
		require.Equal(t, others, e.ksef.alive())
		require.Equal(t, 2, e.ksef.count("DELETE"))
	})
	bubble(t, "former_mount_is_matched_by_the_whole_mark", func(t *testing.T, e *env) {
		const former, nonce = "fedcba987654", "079c2f146d2dce40490c25"
		e.mustIssue(time.Hour)
		e.ksef.add("Report [vault:"+former+":"+nonce+"] copied", client.StatusActive)
		e.ksef.add("Report "+marker(former, nonce)+" "+marker("0123456789ab", nonce), client.StatusActive)
		want := e.ksef.add("Report "+marker(former, nonce), client.StatusActive)
		e.ksef.add("Report "+marker(former, nonce), client.StatusRevoked)
		found, err := e.FormerTokens(t.Context(), testTarget, former)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, want, found[0].ReferenceNumber)
		revoked, err := e.RevokeFormer(t.Context(), testTarget, found)
		require.NoError(t, err)
		require.Equal(t, []string{want}, revoked)
		require.Len(t, e.ksef.alive(), 3)
	})
}

func TestTidy(t *testing.T) {
	bubble(t, "orphan_is_revoked", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.diskByHand().Delete(t.Context(), record.key()))
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, []string{lease.ReferenceNumber}, report.Orphans)
		require.Equal(t, 1, report.Revoking)
		synctest.Wait()
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "stale_record_of_a_token_never_active", func(t *testing.T, e *env) {
		failed, _ := e.mustIssue(time.Hour)
		revoked, _ := e.mustIssue(time.Hour)
		e.ksef.setStatus(failed.ReferenceNumber, client.StatusFailed)
		e.ksef.setStatus(revoked.ReferenceNumber, client.StatusRevoked)
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, true)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{failed.ReferenceNumber, revoked.ReferenceNumber}, report.StaleRecords)
		require.Equal(t, []string{failed.ReferenceNumber}, report.NeverActive)
	})

	bubble(t, "stale_record_is_closed", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.setStatus(lease.ReferenceNumber, client.StatusRevoked)
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, []string{lease.ReferenceNumber}, report.StaleRecords)
		require.Equal(t, 1, report.Closed)
		require.Equal(t, Dead, e.stored(lease).State)
		require.NoError(t, e.revoke(lease))
		require.Zero(t, e.ksef.count("DELETE"))
	})
	bubble(t, "token_in_a_status_that_is_not_listed_is_not_closed", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.setStatus(lease.ReferenceNumber, "Suspended")
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Empty(t, report.StaleRecords)
		require.Equal(t, Live, e.stored(lease).State)
	})
	bubble(t, "dry_run_changes_nothing", func(t *testing.T, e *env) {
		stale, _ := e.mustIssue(time.Hour)
		e.ksef.setStatus(stale.ReferenceNumber, client.StatusRevoked)
		_, orphan := e.mustIssue(time.Hour)
		require.NoError(t, e.diskByHand().Delete(t.Context(), orphan.key()))
		e.disk.writes = nil
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, true)
		require.NoError(t, err)
		require.Equal(t, []string{orphan.ReferenceNumber}, report.Orphans)
		require.Equal(t, []string{stale.ReferenceNumber}, report.StaleRecords)
		require.Zero(t, report.Closed+report.Revoking)
		e.elapse(time.Minute)
		require.Empty(t, e.disk.writes)
		require.Zero(t, e.ksef.count("DELETE"))
	})
	bubble(t, "token_that_is_being_issued_is_no_orphan", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusPending
		go func() { _, _ = e.issue(time.Hour) }()
		e.elapse(10 * time.Second)
		for _, key := range e.keys(livePrefix) {
			require.NoError(t, e.diskByHand().Delete(t.Context(), key))
		}
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Empty(t, report.Orphans)
		require.Equal(t, 1, report.Known)
		e.elapse(time.Minute)
		require.Len(t, e.ksef.alive(), 1)
	})
	bubble(t, "refused_status_closes_nothing", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.setStatus(lease.ReferenceNumber, client.StatusRevoked)
		e.ksef.fail(&e.ksef.before, "GET", refusal("GET", 403))
		e.elapse(time.Second)
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Equal(t, []string{lease.ReferenceNumber}, report.Unknown)
		require.Equal(t, Live, e.stored(lease).State)
	})
	bubble(t, "overdue_and_unreadable_records_are_reported", func(t *testing.T, e *env) {
		overdue, record := e.mustIssue(48 * time.Hour)
		_, damaged := e.mustIssue(time.Hour)
		e.Stop() // else the reconciler would revoke it
		late := *record
		late.Deadline = time.Now().Add(-2 * deadlineGrace)
		late.Nonce = bucketOf(late.Deadline) + record.Nonce[bucketDigits:]
		require.NoError(t, e.store.put(t.Context(), &late))
		require.NoError(t, e.store.remove(t.Context(), record.key()))
		mountID, err := e.id(t.Context())
		require.NoError(t, err)
		e.ksef.find(overdue.ReferenceNumber).Description = "Report " + marker(mountID, late.Nonce)
		e.ksef.setStatus(damaged.ReferenceNumber, client.StatusRevoked)
		require.NoError(t, e.diskByHand().Put(t.Context(), &logical.StorageEntry{Key: damaged.key(), Value: []byte("{")}))
		report, err := e.Tidy(t.Context(), testTarget, true)
		require.NoError(t, err)
		require.Equal(t, []string{overdue.ReferenceNumber}, report.Overdue)
		require.Equal(t, []string{damaged.key()}, report.Unreadable)
	})
	bubble(t, "exhausted_limit_leaves_an_incomplete_report", func(t *testing.T, e *env) {
		e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "LIST", &ratelimit.ExhaustedError{Endpoint: client.EndpointQueryTokens})
		report, err := e.Tidy(t.Context(), testTarget, false)
		require.NoError(t, err)
		require.Error(t, report.Incomplete)
	})
}
