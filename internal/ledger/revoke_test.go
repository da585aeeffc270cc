// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestScope(t *testing.T) {
	answer := func(endpoint string, status int) error { return &client.APIError{Endpoint: endpoint, Status: status} }
	for name, test := range map[string]struct {
		err     error
		scope   scope
		unclear bool
	}{
		"DELETE refused":   {answer(client.EndpointRevokeToken, 400), ofTask, false},
		"DELETE forbidden": {answer(client.EndpointRevokeToken, 403), ofTask, false},
		"DELETE from an address that is not allowed": {
			&client.APIError{Endpoint: client.EndpointRevokeToken, Status: 403, ReasonCode: "ip-not-allowed"}, ofQueue, false,
		},
		"DELETE without login":     {answer(client.EndpointRevokeToken, 401), ofQueue, false},
		"DELETE beyond the limit":  {answer(client.EndpointRevokeToken, 429), ofQueue, false},
		"DELETE fails in KSeF":     {answer(client.EndpointRevokeToken, 503), ofService, true},
		"GET refused":              {answer(client.EndpointToken, 400), ofTask, false},
		"login refused":            {answer(client.EndpointXAdES, 400), ofQueue, false},
		"refresh refused":          {answer(client.EndpointRefresh, 400), ofQueue, false},
		"login decided against":    {&client.LoginError{}, ofQueue, false},
		"DELETE's reply lost":      {&client.TransportError{Endpoint: client.EndpointRevokeToken, Sent: true}, ofQueue, true},
		"DELETE never sent":        {&client.TransportError{Endpoint: client.EndpointRevokeToken}, ofQueue, false},
		"refresh's reply lost":     {&client.TransportError{Endpoint: client.EndpointRefresh, Sent: true}, ofQueue, false},
		"a failure of the storage": {errors.New("storage"), ofQueue, false},
		"a failure of one task":    {&taskError{err: errors.New("task")}, ofTask, false},
	} {
		require.Equal(t, test.scope, scopeOf(test.err), name)
		require.Equal(t, test.unclear, client.MayHaveActed(test.err, client.EndpointRevokeToken), name)
	}
}

func TestRevoke(t *testing.T) {
	bubble(t, "success_removes_the_record", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		require.NoError(t, e.revoke(lease))
		require.Equal(t, client.StatusRevoked, e.ksef.status(lease.ReferenceNumber))
		require.Empty(t, e.keys(StoragePrefix))
		require.Equal(t, []string{EventIssue, EventRevoke}, e.events())
	})
	for name, status := range map[string]int{"401_is_not_success": 401, "403_is_not_success": 403} {
		bubble(t, name, func(t *testing.T, e *env) {
			lease, _ := e.mustIssue(time.Hour)
			e.ksef.before = func(request string) error {
				if request == "DELETE" || request == "GET" {
					return refusal(request, status)
				}
				return nil
			}
			e.requirePending(e.revoke(lease), lease)
			e.elapse(3 * time.Hour)
			e.requirePending(e.revoke(lease), lease)
			e.ksef.mend()
			e.elapse(2 * time.Hour)
			require.NoError(t, e.revoke(lease))
			require.Empty(t, e.ksef.alive())
		})
	}
	for name, reply := range map[string]error{
		"400_is_decided_by_the_status":        refusal("DELETE", 400),
		"403_is_decided_by_the_status":        refusal("DELETE", 403),
		"503_is_decided_by_the_status":        refusal("DELETE", 503),
		"lost_reply_is_decided_by_the_status": lostReply("DELETE"),
	} {
		for status, dead := range map[client.TokenStatus]bool{
			client.StatusRevoking: true, client.StatusRevoked: true, client.StatusFailed: true,
			client.StatusActive: false, client.StatusPending: false, "Suspended": false,
		} {
			bubble(t, name+"/"+string(status), func(t *testing.T, e *env) {
				lease, _ := e.mustIssue(time.Hour)
				e.ksef.setStatus(lease.ReferenceNumber, status)
				e.ksef.fail(&e.ksef.before, "DELETE", reply)
				err := e.revoke(lease)
				if !dead {
					e.requirePending(err, lease)
					return
				}
				require.NoError(t, err)
				require.Empty(t, e.keys(StoragePrefix))
			})
		}
	}
	bubble(t, "refused_status_decides_nothing", func(_ *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.before = func(request string) error { return refusal(request, 403) }
		e.requirePending(e.revoke(lease), lease)
	})
	bubble(t, "pending_when_limit_exhausted", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(24 * time.Hour)
		e.permit = time.Now().Add(time.Hour)
		wait := make(chan struct{})
		e.ksef.before = func(string) error {
			<-wait // a permit
			return nil
		}
		began := time.Now()
		err := e.revoke(lease)
		require.Zero(t, time.Since(began), "a waiting caller would block one of Vault's workers")
		e.requirePending(err, lease)
		var pending *PendingError
		require.ErrorAs(t, err, &pending)
		require.Equal(t, e.permit, pending.Next)
		require.Equal(t, 1, pending.Position)
		e.elapse(time.Hour)
		close(wait)
		synctest.Wait()
		require.Empty(t, e.ksef.alive())
		require.NoError(t, e.revoke(lease))
	})
	bubble(t, "waits_a_few_seconds_for_KSeF", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		wait := make(chan struct{})
		defer close(wait)
		e.ksef.before = func(string) error { <-wait; return nil }
		began := time.Now()
		e.requirePending(e.revoke(lease), lease)
		require.Equal(t, revokeMaxWait, time.Since(began))
	})
	bubble(t, "goes_on_until_KSeF_confirms", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		e.requirePending(e.revoke(lease), lease)
		e.elapse(12 * time.Hour)
		require.Equal(t, Revoking, e.stored(lease).State)
		e.ksef.mend()
		e.elapse(queueBackoff.Longest + time.Second)
		require.Empty(t, e.ksef.alive())
		require.Equal(t, Dead, e.stored(lease).State, "the lease has not asked since")
	})
	bubble(t, "goes_on_after_a_restart", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		e.requirePending(e.revoke(lease), lease)
		e.ksef.mend()
		e.restart()
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "dead_token_is_not_asked_for_again", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.RevokeToken(t.Context(), record))
		require.Equal(t, Dead, e.stored(lease).State)
		sent := len(e.ksef.requests)
		require.NoError(t, e.revoke(lease))
		require.Len(t, e.ksef.requests, sent)
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "dead_record_waits_for_its_lease_for_two_days", func(t *testing.T, e *env) {
		_, record := e.mustIssue(time.Hour)
		require.NoError(t, e.RevokeToken(t.Context(), record))
		e.elapse(deadRetention)
		require.Len(t, e.keys(endingPrefix), 1)
		e.elapse(3 * time.Hour)
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "later_of_two_records_counts", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.RevokeToken(t.Context(), record))
		require.NoError(t, e.store.put(t.Context(), record)) // as a crash leaves it
		sent := len(e.ksef.requests)
		require.NoError(t, e.revoke(lease))
		require.Len(t, e.ksef.requests, sent)
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "lease_without_a_record_asks_KSeF", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.diskByHand().Delete(t.Context(), record.key()))
		require.NoError(t, e.revoke(lease))
		require.Equal(t, 1, e.ksef.count("DELETE"))
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "lease_with_an_unreadable_record_asks_KSeF", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.diskByHand().Put(t.Context(), &logical.StorageEntry{Key: record.key(), Value: []byte("{")}))
		require.NoError(t, e.revoke(lease))
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "lease_that_names_no_token_is_refused", func(t *testing.T, e *env) {
		require.ErrorIs(t, e.revoke(Lease{}), errInvalidLease)
		require.Empty(t, e.ksef.requests)
	})
	bubble(t, "unrecorded_revocation_is_no_success", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		e.disk.failAt = 1
		require.ErrorIs(t, e.revoke(lease), errDisk)
		require.Equal(t, Live, e.stored(lease).State)
		e.requirePending(e.revoke(lease), lease)
	})
	bubble(t, "one_token_does_not_hold_up_the_others", func(t *testing.T, e *env) {
		first, _ := e.mustIssue(time.Hour)
		second, _ := e.mustIssue(time.Hour)
		e.ksef.setStatus(first.ReferenceNumber, "Suspended")
		refused := false
		e.ksef.before = func(request string) error {
			if request == "DELETE" && !refused {
				refused = true
				return refusal("DELETE", 403)
			}
			return nil
		}
		e.requirePending(e.revoke(first), first)
		require.NoError(t, e.revoke(second))
	})
	bubble(t, "retry_tries_at_once_what_has_failed", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(100 * time.Hour)
		e.ksef.before = func(request string) error { return refusal(request, 403) }
		e.requirePending(e.revoke(lease), lease)
		e.elapse(12 * time.Hour)
		e.ksef.mend()
		e.Retry()
		synctest.Wait()
		require.Empty(t, e.ksef.alive())
	})
}

// TestRevoke_crash ends the process at each write of a revocation that KSeF is slow to confirm. The
// token is revoked all the same, and the lease ends.
func TestRevoke_crash(t *testing.T) {
	for at := 1; at <= 4; at++ {
		bubble(t, fmt.Sprintf("at_write_%d", at), func(t *testing.T, e *env) {
			lease, _ := e.mustIssue(time.Hour)
			e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
			e.disk.crashAt = at
			require.Error(t, e.revoke(lease))
			e.ksef.mend()
			e.elapse(10 * time.Minute)
			e.restart()
			require.NoError(t, e.revoke(lease))
			require.Empty(t, e.ksef.alive())
			e.elapse(deadRetention + 3*time.Hour)
			require.Empty(t, e.keys(StoragePrefix))
		})
	}
}

func TestRenew(t *testing.T) {
	until := func(end time.Time) func(time.Time) (time.Time, error) {
		return func(time.Time) (time.Time, error) { return end, nil }
	}
	bubble(t, "later_end_is_recorded", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		end := record.Deadline.Add(3 * time.Hour)
		require.NoError(t, e.Renew(t.Context(), lease, until(end)))
		require.Equal(t, end, e.stored(lease).Deadline)
		e.elapse(time.Hour + deadlineGrace + 2*time.Hour)
		require.Len(t, e.ksef.alive(), 1)
		e.elapse(time.Hour + time.Minute)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "closer_end_is_not_recorded", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.Renew(t.Context(), lease, until(record.Deadline.Add(-time.Minute))))
		require.Equal(t, record.Deadline, e.stored(lease).Deadline)
	})
	bubble(t, "refused_renewal_changes_nothing", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		refused := errors.New("the role is gone")
		require.ErrorIs(t, e.Renew(t.Context(), lease, func(time.Time) (time.Time, error) {
			return record.Deadline.Add(time.Hour), refused
		}), refused)
		require.Equal(t, record.Deadline, e.stored(lease).Deadline)
	})
	bubble(t, "unrecorded_renewal_is_refused", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		e.disk.failAt = 1
		require.ErrorIs(t, e.Renew(t.Context(), lease, until(record.Deadline.Add(time.Hour))), errDisk)
	})
	bubble(t, "revoked_token_is_not_renewed", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		require.NoError(t, e.RevokeToken(t.Context(), record))
		require.ErrorIs(t, e.Renew(t.Context(), lease, until(record.Deadline.Add(time.Hour))), ErrRevoked)
	})
	bubble(t, "token_that_is_being_revoked_is_not_renewed", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		e.reconciler.queueRevocation(record, "a test", false)
		require.Equal(t, Live, e.stored(lease).State)
		require.ErrorIs(t, e.Renew(t.Context(), lease, until(record.Deadline.Add(time.Hour))), ErrRevoked)
	})
}
