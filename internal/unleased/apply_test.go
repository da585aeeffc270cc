// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/stretchr/testify/require"
)

func TestApply(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"other_permissions_rotate_at_once": func(t *testing.T, e *env) {
			e.mustApply(static)
			require.Equal(t, "token-1", e.mustApply(static).ReferenceNumber)
			e.write(static, func(spec *Spec) { spec.Fingerprint = "write" })
			require.Equal(t, "token-2", e.mustApply(static).ReferenceNumber)
			e.requireAlive("token-1", "token-2")
		},
		"other_permissions_rotate_later_where_that_fails": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.write(static, func(spec *Spec) { spec.Fingerprint = "write" })
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			_, err := e.Apply(t.Context(), static)
			require.ErrorIs(t, err, errKSeF)
			require.Equal(t, "token-1", e.number(static))
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(static))
		},
		"permissions_as_before_end_the_trouble": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.write(static, func(spec *Spec) { spec.Fingerprint = "write" })
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			_, err := e.Apply(t.Context(), static)
			require.ErrorIs(t, err, errKSeF)
			require.Len(t, e.Troubles(), 1)
			e.write(static, func(spec *Spec) { spec.Fingerprint = "read" })
			require.Equal(t, "token-1", e.mustApply(static).ReferenceNumber)
			require.Empty(t, e.Troubles())
		},
		"first_is_made_later_where_that_fails": func(t *testing.T, e *env) {
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			_, err := e.Apply(t.Context(), static)
			require.ErrorIs(t, err, errKSeF)
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(time.Minute)
			e.requireAlive("token-1")
		},
		"another_period_counts_from_the_last_rotation": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.elapse(day)
			e.write(static, func(spec *Spec) { spec.Period = 2 * day })
			require.Equal(t, time.Now().Add(day).UTC(), e.mustApply(static).NextRotation)
			e.elapse(day + time.Second)
			require.Equal(t, "token-2", e.number(static))
		},
		"access_tokens_with_other_permissions_are_revoked": func(t *testing.T, e *env) {
			require.Equal(t, "token-1", e.number(access))
			e.write(access, func(spec *Spec) { spec.Fingerprint = "write" })
			e.ledger.set(func() { e.ledger.issueErr = errKSeF })
			require.NoError(t, e.ApplyRole(t.Context(), access.Kind, access.Role))
			synctest.Wait()
			e.requireAlive()
			_, err := e.Token(t.Context(), access)
			require.ErrorIs(t, err, errKSeF)
			e.ledger.set(func() { e.ledger.issueErr = nil })
			e.elapse(time.Minute)
			require.Equal(t, "token-2", e.number(access))
		},
		"access_tokens_of_taxpayers_no_longer_allowed_are_revoked": func(t *testing.T, e *env) {
			require.Equal(t, "token-1", e.number(access))
			e.write(access, nil)
			require.NoError(t, e.ApplyRole(t.Context(), access.Kind, access.Role))
			synctest.Wait()
			e.requireAlive()
			require.Nil(t, e.stored(access))
		},
		"access_tokens_with_the_same_permissions_stay": func(t *testing.T, e *env) {
			require.Equal(t, "token-1", e.number(access))
			require.NoError(t, e.ApplyRole(t.Context(), access.Kind, access.Role))
			synctest.Wait()
			require.Equal(t, "token-1", e.number(access))
		},
	})
}

func TestReplace(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"at_most_once_in_five_minutes": func(t *testing.T, e *env) {
			replace := func(dead string) (*Token, error) {
				e.ledger.setStatus(dead, client.StatusRevoked)
				return e.Replace(t.Context(), access, Dead{ReferenceNumber: dead})
			}
			require.Equal(t, "token-1", e.number(access))
			token, err := replace("token-1")
			require.NoError(t, err)
			require.Equal(t, "token-2", token.ReferenceNumber)
			for range 10 {
				_, err = replace("token-2")
				var wait *WaitError
				require.ErrorAs(t, err, &wait)
				require.Equal(t, time.Now().Add(replaceInterval).UTC(), wait.Next)
				_, err = e.Token(t.Context(), access)
				require.ErrorAs(t, err, &wait)
			}
			e.RetryNow()
			e.elapse(replaceInterval - time.Second)
			require.Equal(t, 2, e.ledger.count("issue"))
			e.elapse(2 * time.Second)
			require.Equal(t, "token-3", e.number(access))
			e.requireAlive("token-3")
		},
		"another_in_force_is_returned": func(t *testing.T, e *env) {
			require.Equal(t, "token-1", e.number(access))
			e.mustRotate(access, RotateOptions{})
			token, err := e.Replace(t.Context(), access, Dead{ReferenceNumber: "token-1"})
			require.NoError(t, err)
			require.Equal(t, "token-2", token.ReferenceNumber)
			require.Equal(t, 2, e.ledger.count("issue"))
		},
	})
}

func (e *env) imported() ledger.ImportRequest {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	token := e.ledger.add(ledger.Holder{}, testTarget, []string{"InvoiceWrite"})
	return ledger.ImportRequest{Target: testTarget, ReferenceNumber: token.ReferenceNumber, Permissions: token.Permissions, Token: token.secret}
}

func TestImport(t *testing.T) {
	run(t, map[string]func(t *testing.T, e *env){
		"is_in_force": func(t *testing.T, e *env) {
			token, err := e.Import(t.Context(), static, e.imported())
			require.NoError(t, err)
			require.Equal(t, []string{"InvoiceWrite"}, token.Permissions)
			require.Equal(t, "token-1", e.number(static))
			require.Zero(t, e.ledger.count("issue"))
			e.elapse(month + 2*time.Hour)
			require.Equal(t, "token-2", e.number(static))
			e.requireAlive("token-2")
		},
		"replaces_the_one_before_with_grace": func(t *testing.T, e *env) {
			e.mustApply(static)
			_, err := e.Import(t.Context(), static, e.imported())
			require.NoError(t, err)
			require.Equal(t, "token-2", e.number(static))
			e.requireAlive("token-1", "token-2")
			e.elapse(time.Hour + time.Second)
			e.requireAlive("token-2")
		},
		"again_does_nothing": func(t *testing.T, e *env) {
			request := e.imported()
			for range 2 {
				_, err := e.Import(t.Context(), static, request)
				require.NoError(t, err)
			}
			require.Equal(t, 1, e.ledger.count("import"))
		},
		"another_leaves_one_before_alive_that_a_crash_has_stopped": func(t *testing.T, e *env) {
			first := e.imported()
			e.disk.crashAt = 2
			_, err := e.Import(t.Context(), static, first)
			require.Error(t, err)
			e.loop.Stop()
			e.disk = &fakeDisk{Storage: e.disk.Storage}
			e.ledger.set(func() { e.ledger.disk = e.disk })
			e.Holders = New(e.Options)
			e.Storage = e.disk
			token, err := e.Import(t.Context(), static, e.imported())
			require.NoError(t, err)
			require.Equal(t, "token-2", token.ReferenceNumber)
			require.Equal(t, time.Now().Add(time.Hour).UTC(), token.PreviousUntil, "the first has its grace")
			e.requireAlive("token-1", "token-2")
		},
		"refused_leaves_nothing": func(t *testing.T, e *env) {
			e.ledger.issueErr = &client.InputError{Field: "token", Fault: "belongs to another role"}
			_, err := e.Import(t.Context(), static, e.imported())
			require.ErrorIs(t, err, e.ledger.issueErr)
			require.Nil(t, e.stored(static))
			e.elapse(day)
			require.Zero(t, e.ledger.count("issue"))
		},
		"refused_leaves_the_one_in_force": func(t *testing.T, e *env) {
			e.mustApply(static)
			e.ledger.set(func() { e.ledger.issueErr = &client.InputError{Field: "token", Fault: "belongs to another role"} })
			_, err := e.Import(t.Context(), static, e.imported())
			require.ErrorIs(t, err, e.ledger.issueErr)
			e.elapse(day)
			require.Equal(t, "token-1", e.number(static))
			require.Equal(t, 1, e.ledger.count("issue"))
		},
		"again_while_it_is_the_one_before": func(t *testing.T, e *env) {
			request := e.imported()
			_, err := e.Import(t.Context(), static, request)
			require.NoError(t, err)
			e.mustRotate(static, RotateOptions{})
			_, err = e.Import(t.Context(), static, request)
			require.NoError(t, err)
			e.elapse(2 * time.Hour)
			require.Equal(t, "token-1", e.number(static))
			e.requireAlive("token-1")
		},
	})
}
