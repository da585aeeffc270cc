// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

func TestPauseIssuing(t *testing.T) {
	bubble(t, "refuses_new_tokens_until_released", func(t *testing.T, e *env) {
		release, err := e.PauseIssuing(t.Context())
		require.NoError(t, err)
		_, err = e.issue(time.Hour)
		require.ErrorIs(t, err, ErrPaused)
		require.Zero(t, e.ksef.count("POST"))
		release()
		_, err = e.issue(time.Hour)
		require.NoError(t, err)
	})
	bubble(t, "waits_for_those_in_progress", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusPending
		go func() { _, _ = e.issue(time.Hour) }()
		synctest.Wait()
		began := time.Now()
		release, err := e.PauseIssuing(t.Context())
		require.NoError(t, err)
		defer release()
		require.Equal(t, time.Minute, time.Since(began), "as long as the wait for Active")
		open, err := e.CountOpen(t.Context())
		require.NoError(t, err)
		require.Equal(t, Open{Live: 1}, open)
	})
}

func TestEndIssuing(t *testing.T) {
	bubble(t, "token_in_progress_is_revoked_and_new_ones_are_refused", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusPending
		done := make(chan error, 1)
		go func() {
			_, err := e.issue(time.Hour)
			done <- err
		}()
		e.elapse(time.Second)
		require.NoError(t, e.EndIssuing(t.Context()))
		require.ErrorIs(t, <-done, ErrUnmounting)
		_, err := e.issue(time.Hour)
		require.ErrorIs(t, err, ErrUnmounting)
		require.Equal(t, 1, e.ksef.count("POST"))
		e.elapse(time.Minute)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "is_undone_by_ResumeIssuing", func(t *testing.T, e *env) {
		require.NoError(t, e.EndIssuing(t.Context()))
		e.ResumeIssuing()
		_, err := e.issue(time.Hour)
		require.NoError(t, err)
	})
	bubble(t, "all_tokens_are_revoked_and_that_is_recorded", func(t *testing.T, e *env) {
		first, _ := e.mustIssue(time.Hour)
		second, _ := e.mustIssue(100 * time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		require.NoError(t, e.RevokeAll(t.Context(), "the mount is disabled"))
		require.NoError(t, e.RecordRevocations(t.Context()))
		require.Equal(t, Revoking, e.stored(first).State)
		require.Equal(t, Revoking, e.stored(second).State)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Len(t, e.AwaitRevocations(ctx).ReferenceNumbers, 2)
		e.ksef.mend()
		require.Empty(t, e.AwaitRevocations(t.Context()).ReferenceNumbers)
		require.Empty(t, e.ksef.alive())
	})
}
