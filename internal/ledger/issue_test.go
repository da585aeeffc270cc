// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"

	"github.com/stretchr/testify/require"
)

func TestIssue(t *testing.T) {
	bubble(t, "intent_is_written_before_KSeF_is_asked", func(t *testing.T, e *env) {
		var intents []string
		e.ksef.before = func(request string) error {
			if request == "POST" {
				intents = e.keys(issuingPrefix)
			}
			return nil
		}
		lease, record := e.mustIssue(time.Hour)
		require.Equal(t, []string{issuingKey(lease.Nonce)}, intents)
		require.Contains(t, record.Description, lease.Nonce, "the token leads back to it")
	})
	bubble(t, "records_who_asked", func(t *testing.T, e *env) {
		issued, err := e.Issue(t.Context(), func() (IssueRequest, error) {
			request, err := e.request(time.Hour)()
			request.EntityID, request.DisplayName = "e1", "approle-erp"
			return request, err
		})
		require.NoError(t, err)
		record := e.stored(issued.Record.Lease())
		require.Equal(t, []string{"e1", "approle-erp"}, []string{record.EntityID, record.DisplayName})
	})
	bubble(t, "without_an_intent_KSeF_is_not_asked", func(t *testing.T, e *env) {
		e.disk.failAt = 1
		_, err := e.issue(time.Hour)
		require.ErrorIs(t, err, errDisk)
		require.Zero(t, e.ksef.count("POST"))
	})
	bubble(t, "intent_stays_until_the_token_is_returned", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusPending
		done := make(chan error, 1)
		go func() {
			_, err := e.issue(time.Hour)
			done <- err
		}()
		e.elapse(10 * time.Second)
		require.Len(t, e.keys(issuingPrefix), 1)
		require.Len(t, e.keys(livePrefix), 1)
		e.ksef.setStatus(e.ksef.alive()[0], client.StatusActive)
		require.NoError(t, <-done)
		require.Empty(t, e.keys(issuingPrefix))
		require.Len(t, e.keys(livePrefix), 1)
		require.Len(t, e.ksef.alive(), 1)
	})
	for _, status := range []int{400, 403, 429} {
		bubble(t, fmt.Sprintf("definite_refusal_removes_the_intent/%d", status), func(t *testing.T, e *env) {
			e.ksef.fail(&e.ksef.before, "POST", refusal("POST", status))
			_, err := e.issue(time.Hour)
			var refused *client.APIError
			require.ErrorAs(t, err, &refused)
			require.False(t, IsSpent(err))
			require.Empty(t, e.keys(StoragePrefix))
			require.Equal(t, []string{EventIssueFail}, e.events())
		})
	}
	for name, reply := range map[string]error{"lost": lostReply("POST"), "500": refusal("POST", 500)} {
		bubble(t, "unclear_reply_leaves_the_intent_and_the_token_is_found_and_revoked/"+name, func(t *testing.T, e *env) {
			e.ksef.fail(&e.ksef.after, "POST", reply)
			_, err := e.issue(time.Hour)
			var lost *LostReplyError
			require.ErrorAs(t, err, &lost)
			require.True(t, IsSpent(err))
			require.Equal(t, []string{issuingKey(lost.Nonce)}, e.keys(StoragePrefix))
			e.ksef.mend()
			e.elapse(2 * time.Minute)
			require.Empty(t, e.ksef.alive())
			require.Empty(t, e.keys(issuingPrefix))
			require.Contains(t, e.events(), EventRecover)
		})
	}
	bubble(t, "intent_without_a_token_is_kept_for_an_hour", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.before, "POST", lostReply("POST"))
		_, err := e.issue(time.Hour)
		require.Error(t, err)
		e.elapse(time.Hour - time.Minute)
		require.Len(t, e.keys(issuingPrefix), 1)
		e.elapse(2 * time.Minute)
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "intent_of_another_signer_is_not_forgotten", func(t *testing.T, e *env) {
		e.ksef.fail(&e.ksef.after, "POST", lostReply("POST"))
		_, err := e.issue(time.Hour)
		require.Error(t, err)
		hidden := e.ksef.login("another", nil)
		e.elapse(24 * time.Hour)
		require.Len(t, e.keys(issuingPrefix), 1, "another signer does not see the token")
		require.Len(t, e.UnsettledRequests(), 1)
		e.ksef.login("5265877635", hidden)
		e.elapse(2 * time.Hour)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(issuingPrefix))
	})
	bubble(t, "token_that_cannot_be_recorded_is_revoked", func(t *testing.T, e *env) {
		e.disk.failAt = 2
		_, err := e.issue(time.Hour)
		require.ErrorIs(t, err, errDisk)
		require.True(t, IsSpent(err))
		e.elapse(time.Minute)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "token_whose_intent_cannot_be_closed_is_revoked", func(t *testing.T, e *env) {
		e.disk.failAt = 3
		_, err := e.issue(time.Hour)
		require.ErrorIs(t, err, errDisk)
		e.elapse(time.Minute)
		require.Empty(t, e.ksef.alive())
	})
	bubble(t, "failed_activation_leaves_nothing", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusFailed
		_, err := e.issue(time.Hour)
		require.ErrorIs(t, err, ErrFailed)
		require.True(t, IsSpent(err))
		require.Empty(t, e.keys(StoragePrefix))
		require.Zero(t, e.ksef.count("DELETE"))
	})
	bubble(t, "token_of_a_caller_that_is_gone_is_revoked", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusPending
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		_, err := e.Issue(ctx, e.request(time.Hour))
		require.ErrorIs(t, err, context.Canceled)
		e.elapse(time.Minute)
		require.Empty(t, e.ksef.alive())
		require.Empty(t, e.keys(issuingPrefix))
	})
	for name, test := range map[string]struct {
		write int
		takes time.Duration
	}{
		"is_recorded, which_is_completed": {2, 30 * time.Second},
		"has_its_intent_removed":          {3, 5 * time.Second},
	} {
		bubble(t, "caller_that_leaves_while_the_token_"+name, func(t *testing.T, e *env) {
			e.disk.hangAt = test.write
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Second, cancel)
			began := time.Now()
			_, err := e.Issue(ctx, e.request(time.Hour))
			require.True(t, IsSpent(err))
			require.Equal(t, test.takes, time.Since(began))
			e.elapse(2 * time.Hour)
			require.Empty(t, e.ksef.alive())
			require.Empty(t, e.keys(issuingPrefix))
		})
	}
	bubble(t, "token_that_stays_Pending_is_returned", func(t *testing.T, e *env) {
		e.ksef.made = client.StatusPending
		issued, err := e.issue(time.Hour)
		require.NoError(t, err)
		require.Equal(t, client.StatusPending, issued.Status)
		require.Error(t, issued.NotActive)
		require.Empty(t, e.keys(issuingPrefix))
	})
	bubble(t, "intent_in_flight_is_not_searched_for", func(t *testing.T, e *env) {
		e.elapse(reviewEvery - 10*time.Second)
		e.ksef.before = func(request string) error {
			if request == "POST" {
				<-time.After(30 * time.Second) // the reconciler reviews the ledger in this time
			}
			return nil
		}
		e.mustIssue(time.Hour)
		require.NotContains(t, e.ksef.requests, "LIST")
		require.Len(t, e.ksef.alive(), 1)
	})
	bubble(t, "exhausted_limit_refuses_before_anything_is_written", func(t *testing.T, e *env) {
		e.permit = time.Now().Add(IssueMaxWait + time.Second)
		_, err := e.issue(time.Hour)
		var exhausted *ratelimit.ExhaustedError
		require.ErrorAs(t, err, &exhausted)
		require.Equal(t, e.permit, exhausted.Next)
		require.Empty(t, e.disk.writes)
		require.Empty(t, e.ksef.requests)
	})
	bubble(t, "storage_never_has_the_token_itself", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.fail(&e.ksef.before, "DELETE", refusal("DELETE", 503))
		require.Error(t, e.revoke(lease))
		for _, key := range e.keys("") {
			entry, err := e.disk.Get(t.Context(), key)
			require.NoError(t, err)
			require.NotContains(t, string(entry.Value), testSecret.Reveal())
		}
	})
}

// TestIssue_crash ends the process at each write and request of an issue. Then no token is alive
// that was not returned, and no record is left.
func TestIssue_crash(t *testing.T) {
	settled := func(e *env) {
		e.t.Helper()
		e.ksef.mend()
		e.restart()
		e.elapse(deadRetention + 2*time.Hour)
		require.Empty(e.t, e.ksef.alive())
		require.Empty(e.t, e.keys(StoragePrefix))
	}
	for at := 1; at <= 3; at++ {
		bubble(t, fmt.Sprintf("at_write_%d", at), func(t *testing.T, e *env) {
			e.disk.crashAt = at
			_, err := e.issue(time.Hour)
			require.ErrorIs(t, err, errCrashed)
			settled(e)
		})
	}
	for _, request := range []string{"POST", "GET"} {
		for name, hook := range map[string]func(e *env) *func(string) error{
			"before": func(e *env) *func(string) error { return &e.ksef.before },
			"after":  func(e *env) *func(string) error { return &e.ksef.after },
		} {
			bubble(t, name+"_"+request, func(t *testing.T, e *env) {
				*hook(e) = func(sent string) error {
					if sent != request {
						return nil
					}
					e.disk.crash()
					return lostReply(request)
				}
				_, err := e.issue(time.Hour)
				require.Error(t, err)
				settled(e)
			})
		}
	}
}
