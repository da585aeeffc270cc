// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/stretchr/testify/require"
)

func TestDelete(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"revokes_all": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.mustRotate(static, RotateOptions{})
			numbers, err := e.Delete(t.Context(), static, false)
			require.NoError(t, err)
			require.Equal(t, []string{"token-2", "token-1"}, numbers)
			e.requireAlive()
			require.Nil(t, e.stored(static))
		},
		"keep_releases": func(t *testing.T, e *env) {
			e.mustApply(static)
			numbers, err := e.Delete(t.Context(), static, true)
			require.NoError(t, err)
			require.Equal(t, []string{"token-1"}, numbers)
			require.Equal(t, client.StatusActive, e.ledger.find("token-1").status)
			require.Equal(t, ledger.Released, e.ledger.find("token-1").State)
			e.write(static, nil)
			e.restart()
			e.elapse(month)
			require.Equal(t, client.StatusActive, e.ledger.find("token-1").status)
		},
		"leaves_a_token_whose_import_was_to_be_refused": func(t *testing.T, e *env) {
			others := static
			others.Role = "others"
			e.mu.Lock()
			e.specs[others] = new(*e.specs[static])
			e.mu.Unlock()
			e.mustApply(others)
			for _, keep := range []bool{false, true} {
				imports := newState(static)
				imports.Pending = &named{ReferenceNumber: "token-1", Imported: true}
				require.NoError(t, e.putState(t.Context(), imports), "a crash was before the refusal")
				numbers, err := e.Delete(t.Context(), static, keep)
				require.NoError(t, err)
				require.Empty(t, numbers)
				require.Equal(t, ledger.Live, e.ledger.find("token-1").State)
			}
		},
		"unconfirmed_is_an_error_and_final": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.revokeErr = &ledger.PendingError{ReferenceNumber: "token-1"} })
			numbers, err := e.Delete(t.Context(), static, false)
			require.True(t, isPending(err))
			require.Equal(t, []string{"token-1"}, numbers)
			require.Nil(t, e.stored(static))
		},
		"failed_goes_on": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.revokeErr = errDisk })
			_, err := e.Delete(t.Context(), static, false)
			require.ErrorIs(t, err, errDisk)
			e.ledger.set(func() { e.ledger.revokeErr = nil })
			e.elapse(time.Minute)
			e.requireAlive()
			require.Nil(t, e.stored(static))
		},
		"role_written_again_gets_another": func(t *testing.T, e *env) {
			e.mustApply(static)
			_, err := e.Delete(t.Context(), static, false)
			require.NoError(t, err)
			require.Equal(t, "token-2", e.mustApply(static).ReferenceNumber)
		},
		"all_taxpayers_of_a_role": func(t *testing.T, e *env) {
			other := access
			other.Taxpayer.Value = "1111111111"
			e.mu.Lock()
			e.specs[other] = new(*e.specs[access])
			e.specs[other].Request = func() (ledger.IssueRequest, error) {
				return ledger.IssueRequest{Target: ledger.Target{API: client.TestURL, Context: other.Taxpayer}}, nil
			}
			e.mu.Unlock()
			e.number(access)
			e.number(other)
			e.mustApply(static)
			numbers, err := e.DeleteRole(t.Context(), access.Kind, access.Role)
			require.NoError(t, err)
			require.Equal(t, []string{"token-1", "token-2"}, numbers)
			e.requireAlive("token-3")
			keys, err := e.keys(t.Context(), access.Kind, access.Role, nil)
			require.NoError(t, err)
			require.Empty(t, keys)
		},
		"role_that_is_gone": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.write(static, nil)
			e.restart()
			e.requireAlive()
			require.Nil(t, e.stored(static))
		},
	})
}

func TestAdvance(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"ends_all_when_tokens_are_no_longer_accepted": func(t *testing.T, e *env) {
			for _, key := range []Key{static, access} {
				e.write(key, func(spec *Spec) { spec.Until = time.Now().Add(10 * day) })
			}
			e.mustApply(static)
			e.number(access)
			e.elapse(10*day - time.Second)
			e.requireAlive("token-1", "token-2")
			e.elapse(2 * time.Second)
			e.requireAlive()
			_, err := e.Token(t.Context(), static)
			require.ErrorIs(t, err, ErrEnded)
			e.elapse(3 * month)
			require.Equal(t, 2, e.ledger.count("issue"))
		},
		"unused_is_revoked_after_seven_days": func(t *testing.T, e *env) {
			e.number(access)
			require.NoError(t, e.MarkUnused(t.Context(), access, time.Now().Add(-day)))
			synctest.Wait()
			e.elapse(6*day - time.Second)
			e.requireAlive("token-1")
			e.elapse(2 * time.Second)
			e.requireAlive()
			require.Equal(t, "token-2", e.number(access))
		},
		"used_again_is_not_revoked": func(t *testing.T, e *env) {
			e.number(access)
			require.NoError(t, e.MarkUnused(t.Context(), access, time.Now()))
			e.elapse(6 * day)
			require.Equal(t, "token-1", e.number(access))
			e.elapse(6 * day)
			e.requireAlive("token-1")
		},
		"unused_is_revoked_though_rotated": func(t *testing.T, e *env) {
			e.number(access)
			e.elapse(25 * day)
			require.NoError(t, e.MarkUnused(t.Context(), access, time.Now()))
			e.elapse(8 * day)
			e.requireAlive()
		},
		"idle_when_nothing_is_due": func(t *testing.T, e *env) {
			e.mustApply(static)
			next, err := e.Advance(t.Context())
			require.NoError(t, err)
			require.Equal(t, time.Now().Add(month).UTC(), next)
			require.Zero(t, e.faults)
		},
		"start_reads_each_state_twice_and_writes_nothing": func(t *testing.T, e *env) {
			const taxpayers = 1000
			for i := range taxpayers {
				key := access
				key.Taxpayer.Value = fmt.Sprint(i)
				e.mu.Lock()
				e.specs[key] = new(*e.specs[access])
				e.specs[key].Request = func() (ledger.IssueRequest, error) {
					return ledger.IssueRequest{Target: ledger.Target{API: client.TestURL, Context: key.Taxpayer}}, nil
				}
				e.mu.Unlock()
				_, err := e.Token(t.Context(), key)
				require.NoError(t, err)
			}
			e.restart()
			e.elapse(day)
			require.Equal(t, 2*taxpayers, e.disk.reads)
			require.Zero(t, e.disk.writes)
			require.Equal(t, taxpayers, e.ledger.count("issue"))
		},
		"failed_write_is_an_error_and_repeated": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.disk.mu.Lock()
			e.disk.failAt = e.disk.writes + 1
			e.disk.mu.Unlock()
			e.elapse(month + time.Second)
			require.Equal(t, 1, e.faults)
			e.elapse(time.Hour + time.Minute)
			require.Equal(t, []string{e.number(static)}, e.ledger.alive())
			require.Equal(t, 1, e.faults)
		},
		"failed_listing_is_repeated": func(_ *testing.T, e *env) {
			e.mustApply(static)
			e.write(static, nil)
			e.loop.Stop()
			e.disk = &fakeDisk{Storage: e.disk.Storage, crashed: true}
			e.ledger.set(func() { e.ledger.disk = e.disk })
			e.start()
			e.disk.mu.Lock()
			e.disk.crashed = false
			e.disk.mu.Unlock()
			e.elapse(time.Minute)
			e.requireAlive()
		},
	})
}
