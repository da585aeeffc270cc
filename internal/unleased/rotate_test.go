// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestRotate(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"after_the_period": func(t *testing.T, e *env) {
			made := e.mustApply(static)
			require.Equal(t, time.Now().Add(month).UTC(), made.NextRotation)
			e.elapse(month - time.Second)
			require.Equal(t, "token-1", e.number(static))
			e.elapse(2 * time.Second)
			require.Equal(t, "token-2", e.number(static))
			token, err := e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Equal(t, token.LastRotation.Add(time.Hour), token.PreviousUntil)
			require.WithinDuration(t, time.Now().Add(month), token.NextRotation, 2*time.Second)
			e.requireAlive("token-1", "token-2")
			e.elapse(time.Hour)
			e.requireAlive("token-2")
			e.requireSettled()
		},
		"after_the_period_across_a_restart": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.elapse(month / 2)
			e.restart()
			e.elapse(month/2 + time.Second)
			require.Equal(t, "token-2", e.number(static))
		},
		"spread_by_a_tenth": func(t *testing.T, e *env) {
			seen := make(map[time.Time]bool)
			for range 20 {
				next := e.mustRotate(access, RotateOptions{}).NextRotation
				require.False(t, next.After(time.Now().Add(month)))
				require.False(t, next.Before(time.Now().Add(month-month/10)))
				seen[next] = true
			}
			require.Greater(t, len(seen), 10)
		},
		"at_the_schedule": func(t *testing.T, e *env) {
			e.write(static, func(spec *Spec) { spec.Period, spec.Schedule = 0, "0 3 * * *" })
			made := e.mustApply(static)
			require.Equal(t, time.Date(2000, 1, 1, 3, 0, 0, 0, time.UTC), made.NextRotation)
			e.elapse(3*time.Hour - time.Second)
			require.Equal(t, "token-1", e.number(static))
			e.elapse(2 * time.Second)
			require.Equal(t, "token-2", e.number(static))
			e.elapse(day)
			require.Equal(t, "token-3", e.number(static))
		},
		"not_after_the_window": func(t *testing.T, e *env) {
			e.write(static, func(spec *Spec) { spec.Period, spec.Schedule, spec.Window = 0, "0 3 * * *", time.Hour })
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			e.elapse(4*time.Hour + time.Second)
			attempts := e.ledger.count("issue")
			require.Greater(t, attempts, 3)
			e.elapse(22 * time.Hour)
			require.Equal(t, attempts, e.ledger.count("issue"), "it waits for the next window")
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(2 * time.Hour)
			require.Equal(t, "token-2", e.number(static))
		},
		"not_where_that_is_disabled": func(t *testing.T, e *env) {
			e.write(static, func(spec *Spec) { spec.Automatic = false })
			require.Zero(t, e.mustApply(static).NextRotation)
			e.elapse(3 * month)
			require.Equal(t, "token-1", e.number(static))
			e.write(static, func(spec *Spec) { spec.Automatic = true })
			e.mustApply(static)
			require.Equal(t, "token-2", e.number(static))
		},
		"at_two_thirds_of_the_token's_life": func(t *testing.T, e *env) {
			e.ledger.validFor = 9 * day
			require.Equal(t, time.Now().Add(6*day).UTC(), e.mustApply(static).NextRotation)
			e.elapse(6*day + time.Second)
			require.Equal(t, "token-2", e.number(static))
		},
		"by_hand_keeps_the_schedule": func(t *testing.T, e *env) {
			planned := e.mustApply(static).NextRotation
			e.elapse(day)
			rotated := e.mustRotate(static, RotateOptions{KeepSchedule: true})
			require.Equal(t, planned, rotated.NextRotation)
			require.Equal(t, time.Now().UTC(), rotated.LastRotation)
			require.Equal(t, time.Now().Add(month).UTC(), e.mustRotate(static, RotateOptions{}).NextRotation)
		},
		"by_hand_revokes_the_ones_before": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.mustRotate(static, RotateOptions{})
			e.requireAlive("token-1", "token-2")
			rotated := e.mustRotate(static, RotateOptions{RevokePrevious: true})
			require.Empty(t, rotated.Warning)
			require.Zero(t, rotated.PreviousUntil)
			e.requireAlive("token-3")
		},
		"unconfirmed_revocation_is_a_warning": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.revokeErr = &ledger.PendingError{ReferenceNumber: "token-1"} })
			rotated := e.mustRotate(static, RotateOptions{RevokePrevious: true})
			require.Contains(t, rotated.Warning, "token-1")
			require.Empty(t, e.stored(static).Previous, "the ledger goes on with it")
		},
		"failed_revocation_is_repeated": func(_ *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.revokeErr = errDisk })
			e.mustRotate(static, RotateOptions{RevokePrevious: true})
			e.requireAlive("token-1", "token-2")
			e.ledger.set(func() { e.ledger.revokeErr = nil })
			e.elapse(time.Hour)
			e.requireAlive("token-2")
		},
		"failure_leaves_the_token_and_is_repeated": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			_, err := e.Rotate(t.Context(), static, RotateOptions{RevokePrevious: true})
			require.ErrorIs(t, err, errKSeF)
			require.Equal(t, "token-1", e.number(static))
			e.elapse(6 * time.Hour)
			require.Less(t, e.ledger.count("issue"), 22)
			require.Len(t, e.Troubles(), 1)
			require.Contains(t, e.Troubles()[0], "the static role erp gets no new token")
			require.Contains(t, e.Troubles()[0], "KSeF is away")
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.RetryNow()
			synctest.Wait()
			require.Equal(t, "token-2", e.number(static))
			require.Empty(t, e.Troubles())
			e.requireAlive("token-2")
		},
		"config_change_is_no_failure": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.issueErr = ledger.ErrPaused })
			_, err := e.Rotate(t.Context(), static, RotateOptions{})
			require.ErrorIs(t, err, ledger.ErrPaused)
			require.Empty(t, e.Troubles())
			require.Equal(t, []string{EventRotate}, e.kinds())
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(static))
		},
		"caller_that_leaves_is_no_failure": func(t *testing.T, e *env) {
			e.mustApply(static)
			waits := make(chan struct{})
			e.ledger.set(func() { e.ledger.issueWaits = waits })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := e.Rotate(ctx, static, RotateOptions{})
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Empty(t, e.Troubles())
			close(waits)
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(static))
		},
		"switches_when_active": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			_, err := e.Rotate(t.Context(), static, RotateOptions{})
			require.ErrorIs(t, err, errNotActive)
			e.restart()
			e.elapse(time.Minute)
			require.Equal(t, "token-1", e.number(static))
			e.ledger.setStatus("token-2", client.StatusActive)
			e.elapse(time.Hour)
			require.Equal(t, "token-2", e.number(static))
			require.Equal(t, 2, e.ledger.count("issue"))
		},
		"looks_soon_at_one_that_waits_for_KSeF_after_refusals": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			for range 6 {
				_, err := e.Rotate(t.Context(), static, RotateOptions{})
				require.ErrorIs(t, err, errKSeF)
			}
			e.ledger.set(func() { e.ledger.issueErr, e.ledger.made = nil, client.StatusPending })
			_, err := e.Rotate(t.Context(), static, RotateOptions{})
			require.ErrorIs(t, err, errNotActive)
			e.ledger.setStatus("token-2", client.StatusActive)
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(static))
		},
		"looks_less_and_less_often": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			_, err := e.Rotate(t.Context(), static, RotateOptions{})
			require.ErrorIs(t, err, errNotActive)
			e.elapse(pendingLife - time.Minute)
			looks := e.ledger.count("status")
			require.GreaterOrEqual(t, looks, 10)
			require.LessOrEqual(t, looks, 20)
		},
		"limits_that_hide_a_pending_one_are_one_event": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			_, err := e.Rotate(t.Context(), static, RotateOptions{})
			require.ErrorIs(t, err, errNotActive)
			e.ledger.set(func() { e.ledger.statusErr = &ratelimit.ExhaustedError{} })
			e.elapse(time.Hour)
			require.Equal(t, []string{EventRotate, EventRotateFail}, e.kinds())
		},
		"goes_on_when_the_limits_allow_it": func(t *testing.T, e *env) {
			e.mustApply(static)
			next := time.Now().Add(20 * time.Minute)
			e.ledger.set(func() { e.ledger.issueErr = &ratelimit.ExhaustedError{Next: next} })
			for range 6 {
				_, err := e.Rotate(t.Context(), static, RotateOptions{})
				require.ErrorAs(t, err, new(*ratelimit.ExhaustedError))
			}
			require.Equal(t, []string{EventRotate, EventRotateFail}, e.kinds())
			asked := e.ledger.count("issue")
			e.elapse(time.Until(next) - time.Second)
			require.Equal(t, asked, e.ledger.count("issue"))
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(afterFailure.Shortest + time.Second)
			require.Equal(t, "token-2", e.number(static))
		},
		"gives_up_one_that_is_never_active": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			_, err := e.Rotate(t.Context(), static, RotateOptions{})
			require.ErrorIs(t, err, errNotActive)
			e.ledger.set(func() { e.ledger.made = client.StatusActive })
			e.elapse(3 * time.Hour)
			require.Equal(t, "token-3", e.number(static))
			e.requireAlive("token-3")
		},
	})
}
