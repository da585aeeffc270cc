// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestToken(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"reads_ask_nothing": func(t *testing.T, e *env) {
			require.Equal(t, "token-1", e.number(access))
			before := e.ledger.count("secret") + e.ledger.count("status") + e.ledger.count("list")
			for range 1000 {
				require.Equal(t, "token-1", e.number(access))
			}
			require.Equal(t, before, e.ledger.count("secret")+e.ledger.count("status")+e.ledger.count("list"))
			require.Equal(t, 1, e.ledger.count("issue"))
		},
		"only_the_holders_own_folders_are_listed": func(t *testing.T, e *env) {
			for _, key := range []string{"ledger/live/0/a", "roles/invoices", "roles/other"} {
				require.NoError(t, e.disk.Put(t.Context(), &logical.StorageEntry{Key: key}))
			}
			e.mustApply(static)
			require.Equal(t, "token-2", e.number(access))
			e.restart()
			require.NoError(t, e.ApplyRole(t.Context(), access.Kind, access.Role))
			_, err := e.DeleteRole(t.Context(), access.Kind, access.Role)
			require.NoError(t, err)
			require.NotEmpty(t, e.disk.lists())
			for _, folder := range e.disk.lists() {
				require.True(t, strings.HasPrefix(folder, StoragePrefix), folder)
			}
		},
		"first_is_made_once_for_all_readers": func(t *testing.T, e *env) {
			var readers sync.WaitGroup
			for range 50 {
				readers.Go(func() { _, err := e.Token(t.Context(), access); require.NoError(t, err) })
			}
			readers.Wait()
			require.Equal(t, 1, e.ledger.count("issue"))
		},
		"static_is_checked_once_per_start": func(t *testing.T, e *env) {
			e.mustApply(static)
			require.Equal(t, "token-1", e.number(static))
			require.Zero(t, e.ledger.count("status"), "this process has made it")
			e.restart()
			var readers sync.WaitGroup
			for range 50 {
				readers.Go(func() { _, err := e.Token(t.Context(), static); require.NoError(t, err) })
			}
			readers.Wait()
			e.Invalidate()
			require.Equal(t, "token-1", e.number(static))
			require.Equal(t, 1, e.ledger.count("status"))
		},
		"dead_after_the_start_is_made_anew": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			e.ledger.setStatus("token-1", client.StatusRevoked)
			require.Equal(t, "token-2", e.number(static))
			e.requireAlive("token-2")
			require.Equal(t, []string{EventRotate, EventReplace}, e.kinds())
			require.Len(t, e.Troubles(), 1)
			require.Contains(t, e.Troubles()[0], "the static role erp has had its token token-1 replaced")
			e.elapse(day)
			require.Empty(t, e.Troubles())
		},
		"unanswered_check_is_a_warning": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			e.ledger.set(func() { e.ledger.statusErr = errKSeF })
			for range 3 {
				token, err := e.Token(t.Context(), static)
				require.NoError(t, err)
				require.Contains(t, token.Warning, "KSeF is away")
			}
			require.Equal(t, 1, e.ledger.count("status"), "readers do not wait again")
			e.elapse(2*unanswered.Shortest + time.Second)
			require.Equal(t, 2, e.ledger.count("status"))
			e.ledger.set(func() { e.ledger.statusErr = nil })
			e.elapse(2*unanswered.Shortest + time.Second)
			token, err := e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Empty(t, token.Warning)
		},
		"unanswered_check_replaces_a_dead_token_later": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			e.ledger.set(func() { e.ledger.statusErr = errKSeF })
			require.Equal(t, "token-1", e.number(static))
			e.ledger.set(func() { e.ledger.statusErr = nil })
			e.ledger.setStatus("token-1", client.StatusRevoked)
			e.elapse(2*unanswered.Shortest + time.Second)
			require.Equal(t, "token-2", e.number(static))
		},
		"first_that_KSeF_fails_to_activate_is_replaced": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			require.Contains(t, e.mustApply(static).Warning, "KSeF has not activated the token yet")
			token, err := e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Contains(t, token.Warning, "KSeF has not activated the token yet")
			e.ledger.setStatus("token-1", client.StatusFailed)
			e.ledger.set(func() { e.ledger.made = client.StatusActive })
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(static))
			require.Equal(t, []string{EventRotate, EventReplace}, e.kinds())
			require.Len(t, e.Troubles(), 1)
			require.Contains(t, e.Troubles()[0], "since KSeF had not activated it")
		},
		"first_is_asked_for_by_a_write_after_a_start": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			e.mustApply(static)
			e.restart()
			require.Contains(t, e.mustApply(static).Warning, "KSeF has not activated the token yet")
			e.ledger.setStatus("token-1", client.StatusFailed)
			e.ledger.set(func() { e.ledger.made = client.StatusActive })
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(static))
			e.elapse(replaceInterval)
			e.restart()
			e.ledger.setStatus("token-2", client.StatusRevoked)
			require.Equal(t, "token-3", e.mustApply(static).ReferenceNumber)
		},
		"late_answer_about_the_one_before_is_not_kept": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			answer := make(chan struct{})
			e.ledger.set(func() { e.ledger.statusWaits = answer })
			var reader sync.WaitGroup
			reader.Go(func() { _, _ = e.Token(t.Context(), static) })
			synctest.Wait()
			e.ledger.set(func() { e.ledger.made, e.ledger.revokeErr = client.StatusPending, errKSeF })
			_, err := e.Replace(t.Context(), static, Dead{ReferenceNumber: "token-1"})
			require.NoError(t, err)
			close(answer)
			reader.Wait()
			e.ledger.setStatus("token-2", client.StatusFailed)
			e.ledger.set(func() { e.ledger.made = client.StatusActive })
			e.elapse(replaceInterval + time.Minute)
			require.Equal(t, "token-3", e.number(static))
		},
		"answer_after_a_write_of_the_same_token_is_kept": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			e.mustApply(static)
			e.restart()
			answer := make(chan struct{})
			e.ledger.set(func() { e.ledger.statusWaits = answer })
			var reader sync.WaitGroup
			reader.Go(func() {
				token, err := e.Token(t.Context(), static)
				require.NoError(t, err)
				require.Contains(t, token.Warning, notActiveYet)
			})
			synctest.Wait()
			e.Invalidate()
			synctest.Wait()
			close(answer)
			reader.Wait()
			e.ledger.setStatus("token-1", client.StatusFailed)
			e.ledger.set(func() { e.ledger.made = client.StatusActive })
			e.elapse(time.Minute)
			require.Equal(t, []string{EventRotate, EventReplace}, e.kinds())
		},
		"later_answer_ends_the_warning_of_an_earlier_one": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			writes, reads := make(chan struct{}), make(chan struct{})
			var both sync.WaitGroup
			e.ledger.set(func() { e.ledger.statusWaits = writes })
			both.Go(func() { _, err := e.Apply(t.Context(), static); require.NoError(t, err) })
			synctest.Wait()
			e.ledger.set(func() { e.ledger.statusWaits, e.ledger.statusErr = reads, errKSeF })
			both.Go(func() { _, err := e.Token(t.Context(), static); require.NoError(t, err) })
			synctest.Wait()
			close(reads)
			synctest.Wait()
			e.ledger.set(func() { e.ledger.statusErr = nil })
			close(writes)
			both.Wait()
			token, err := e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Empty(t, token.Warning)
		},
		"question_that_is_cut_off_is_asked_again": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			e.ledger.set(func() { e.ledger.statusErr = errKSeF })
			require.Equal(t, "token-1", e.number(static))
			e.loop.Stop()
			e.ledger.set(func() { e.ledger.statusErr, e.ledger.statusWaits = nil, make(chan struct{}) })
			e.elapse(unanswered.Shortest)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := e.Advance(ctx)
			require.NoError(t, err)
			e.ledger.set(func() { e.ledger.statusWaits = nil })
			_, err = e.Advance(t.Context())
			require.NoError(t, err)
			token, err := e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Empty(t, token.Warning)
		},
		"late_failure_about_the_one_before_is_not_kept": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			answer := make(chan struct{})
			e.ledger.set(func() { e.ledger.statusWaits = answer })
			var reader sync.WaitGroup
			reader.Go(func() { _, _ = e.Token(t.Context(), static) })
			synctest.Wait()
			e.mustRotate(static, RotateOptions{})
			e.ledger.set(func() { e.ledger.statusErr = errKSeF })
			close(answer)
			reader.Wait()
			e.elapse(2 * time.Hour)
			before := e.disk.count()
			e.elapse(time.Hour)
			require.LessOrEqual(t, e.disk.count()-before, 1, "nothing is due")
		},
		"first_is_asked_for_until_it_is_active": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			e.mustApply(static)
			e.restart()
			token, err := e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Contains(t, token.Warning, "KSeF has not activated the token yet")
			e.ledger.setStatus("token-1", client.StatusActive)
			e.elapse(time.Minute)
			token, err = e.Token(t.Context(), static)
			require.NoError(t, err)
			require.Empty(t, token.Warning)
			asked := e.ledger.count("status")
			e.elapse(day)
			require.Equal(t, asked, e.ledger.count("status"))
		},
		"first_that_is_never_active_is_replaced": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.made = client.StatusActive })
			e.elapse(2 * pendingLife)
			require.Equal(t, "token-2", e.number(static))
			require.LessOrEqual(t, e.ledger.count("status"), 20)
			e.requireAlive("token-2")
		},
		"first_of_an_access_role_is_proven_by_its_login": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.made = client.StatusPending })
			require.Equal(t, "token-1", e.number(access))
			e.elapse(day)
			require.Zero(t, e.ledger.count("status"))
		},
		"missing_text_is_made_anew": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			e.ledger.set(func() { e.ledger.find("token-1").secret = "" })
			require.Equal(t, "token-2", e.number(static))
			e.requireAlive("token-2")
		},
		"role_that_is_gone": func(t *testing.T, e *env) {
			e.write(static, nil)
			_, err := e.Token(t.Context(), static)
			require.ErrorIs(t, err, ErrNoRole)
			require.Zero(t, e.ledger.count("issue"))
		},
		"readers_do_not_wait_for_a_rotation": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			waits := make(chan struct{})
			e.ledger.set(func() { e.ledger.issueWaits = waits })
			var rotation sync.WaitGroup
			rotation.Go(func() { _, err := e.Rotate(t.Context(), static, RotateOptions{}); require.NoError(t, err) })
			synctest.Wait()
			for range 10 {
				require.Equal(t, "token-1", e.number(static))
			}
			close(waits)
			rotation.Wait()
			require.Equal(t, "token-2", e.number(static))
		},
		"rotation_during_the_first_read": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.restart()
			waits := make(chan struct{})
			e.ledger.set(func() { e.ledger.statusWaits = waits })
			var reader sync.WaitGroup
			reader.Go(func() {
				token, err := e.Token(t.Context(), static)
				require.NoError(t, err)
				require.Equal(t, "token-1", token.ReferenceNumber, "it is good for its grace")
			})
			synctest.Wait()
			e.mustRotate(static, RotateOptions{})
			close(waits)
			reader.Wait()
			require.Equal(t, "token-2", e.number(static))
		},
		"reader_that_leaves_fails_no_other": func(t *testing.T, e *env) {
			waits := make(chan struct{})
			e.ledger.set(func() { e.ledger.issueWaits = waits })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var readers sync.WaitGroup
			readers.Go(func() { _, err := e.Token(ctx, access); require.ErrorIs(t, err, context.DeadlineExceeded) })
			synctest.Wait()
			readers.Go(func() { _, err := e.Token(t.Context(), access); require.NoError(t, err) })
			e.elapse(2 * time.Second)
			close(waits)
			readers.Wait()
			require.Equal(t, 1, e.ledger.count("issue"))
		},
		"failure_is_not_repeated_by_each_reader": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			_, err := e.Token(t.Context(), access)
			require.ErrorIs(t, err, errKSeF)
			var wait *WaitError
			for range 10 {
				_, err = e.Token(t.Context(), access)
				require.ErrorAs(t, err, &wait)
				require.ErrorIs(t, err, errKSeF)
			}
			require.Equal(t, 1, e.ledger.count("issue"))
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(time.Until(wait.Next))
			require.Equal(t, "token-1", e.number(access))
		},
		"unreadable_state_is_left_alone": func(t *testing.T, e *env) {
			e.mustApply(static)
			require.NoError(t, e.disk.Put(t.Context(), &logical.StorageEntry{Key: static.storageKey(), Value: []byte(`{"version":2}`)}))
			e.restart()
			_, err := e.Token(t.Context(), static)
			var input *client.InputError
			require.ErrorAs(t, err, &input)
			e.elapse(day)
			e.requireAlive("token-1")
			numbers, err := e.Delete(t.Context(), static, false)
			require.NoError(t, err)
			require.Equal(t, []string{"token-1"}, numbers)
			e.requireAlive()
		},
	})
}

// TestConcurrent mixes readers, rotations, replacements and maintenance. Each reader gets a token
// that is alive when it asks.
func TestConcurrent(t *testing.T) {
	bubble(t, func(t *testing.T, e *env) {
		e.mustApply(static)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 50 {
					token, err := e.Token(t.Context(), static)
					require.NoError(t, err)
					require.Contains(t, e.ledger.alive(), token.ReferenceNumber)
					time.Sleep(time.Second)
				}
			})
		}
		all.Go(func() {
			for range 10 {
				_, err := e.Rotate(t.Context(), static, RotateOptions{})
				require.NoError(t, err)
				time.Sleep(3 * time.Second)
			}
		})
		all.Go(func() {
			for range 10 {
				e.Invalidate()
				_ = e.Troubles()
				time.Sleep(4 * time.Second)
			}
		})
		all.Wait()
		e.elapse(2 * time.Hour)
		require.Len(t, e.ledger.alive(), 1)
		e.requireSettled()
	})
}
