// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestOverdue(t *testing.T) {
	bubble(t, "revoked_after_grace", func(t *testing.T, e *env) {
		require.Equal(t, time.Hour, deadlineGrace)
		lease, record := e.mustIssue(time.Hour)
		e.elapse(time.Until(record.Deadline) + deadlineGrace - time.Second)
		require.Len(t, e.ksef.alive(), 1, "Vault may still revoke it")
		e.elapse(2 * time.Second)
		require.Empty(t, e.ksef.alive())
		require.NoError(t, e.revoke(lease))
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "revoked_after_grace_across_a_restart", func(t *testing.T, e *env) {
		_, record := e.mustIssue(100 * time.Hour)
		e.elapse(50 * time.Hour)
		e.restart()
		e.elapse(time.Until(record.Deadline) + deadlineGrace - time.Second)
		require.Len(t, e.ksef.alive(), 1)
		e.elapse(2 * time.Second)
		require.Empty(t, e.ksef.alive())
	})
	// The clock cannot jump in a bubble. The deadlines jump instead: to a process that has just
	// read them it is the same.
	bubble(t, "clock_jump_revokes_nothing", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(24 * time.Hour)
		jumped := *record
		jumped.Deadline = time.Now().Add(-24 * time.Hour)
		require.NoError(t, e.store.put(t.Context(), &jumped))
		e.reconciler.scheduleCheck(&jumped)
		e.elapse(overdueConfirm - time.Second)
		require.Len(t, e.ksef.alive(), 1)
		require.NoError(t, e.store.put(t.Context(), record)) // the clock is right again
		e.elapse(12 * time.Hour)
		require.Len(t, e.ksef.alive(), 1)
		require.Equal(t, Live, e.stored(lease).State)
	})
	bubble(t, "renewal_while_overdue_keeps_the_token", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.elapse(time.Hour + overdueNotice + time.Minute)
		require.Equal(t, 1, e.overdueTokens())
		end := time.Now().Add(24 * time.Hour)
		require.NoError(t, e.Renew(t.Context(), lease, func(time.Time) (time.Time, error) { return end, nil }))
		e.elapse(time.Until(end) + deadlineGrace - time.Second)
		require.Len(t, e.ksef.alive(), 1, "what was seen before the renewal does not count")
		e.elapse(2 * time.Second)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "deadline_ends_no_later_than_KSeF_ends_the_token", func(t *testing.T, _ *env) {
		record := &Record{Created: time.Now(), Deadline: time.Now().Add(48 * time.Hour)}
		require.True(t, record.updateValidity(time.Now().Add(24*time.Hour)))
		require.Equal(t, time.Now().Add(24*time.Hour).UTC(), record.Deadline.UTC())
		require.False(t, record.updateValidity(record.Created), "a token that ends before it is made does not exist")
	})
	bubble(t, "failed_reading_is_repeated", func(t *testing.T, e *env) {
		_, record := e.mustIssue(time.Hour)
		e.elapse(time.Until(record.Deadline) + overdueNotice - time.Second)
		e.disk.failReads(true)
		e.elapse(2 * time.Second)
		e.disk.failReads(false)
		e.elapse(reviewBackoff.Shortest + overdueConfirm)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "long_fault_of_storage_delays_the_revocation", func(t *testing.T, e *env) {
		e.mustIssue(time.Hour)
		e.elapse(time.Hour)
		e.disk.failReads(true)
		e.elapse(3 * time.Hour)
		require.Len(t, e.ksef.alive(), 1)
		e.disk.failReads(false)
		e.elapse(reviewBackoff.Longest + overdueConfirm + time.Second)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "unreadable_record_is_skipped", func(t *testing.T, e *env) {
		_, damaged := e.mustIssue(time.Hour)
		_, other := e.mustIssue(time.Hour)
		require.NoError(t, e.diskByHand().Put(t.Context(), &logical.StorageEntry{Key: damaged.key(), Value: []byte("{")}))
		e.elapse(time.Hour + deadlineGrace + time.Minute)
		require.Equal(t, []string{damaged.ReferenceNumber}, e.ksef.alive())
		require.Equal(t, client.StatusRevoked, e.ksef.status(other.ReferenceNumber))
	})
}
