// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/stretchr/testify/require"
)

func TestFailures(t *testing.T) {
	t.Run("resolvedBy", testFailureResolvedBy)
	t.Run("last", testFailuresLast)
}

func testFailureResolvedBy(t *testing.T) {
	here, elsewhere := client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}, client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}
	login := activity{kind: kindLogin, taxpayer: here}
	issue, otherRole := activity{kindIssue, here, "a"}, activity{kindIssue, here, "b"}
	issueElsewhere := activity{kindIssue, elsewhere, "a"}
	revoke, otherToken := activity{kindRevoke, here, "1"}, activity{kindRevoke, here, "2"}
	rotate := activity{kind: kindRotation}

	refused := &client.APIError{Status: http.StatusBadRequest}
	limited := &client.APIError{Status: http.StatusTooManyRequests}
	fault := &client.APIError{Status: http.StatusInternalServerError}
	lost := &ledger.LostReplyError{Err: &client.TransportError{Sent: true, Err: errors.New("reset")}}
	storage := errors.New("no space left")
	for name, test := range map[string]struct {
		failed   activity
		err      error
		resolves []activity
		not      []activity
	}{
		"login":              {login, &client.LoginError{}, []activity{login, issue, revoke}, []activity{issueElsewhere, rotate}},
		"role":               {issue, refused, []activity{issue}, []activity{login, otherRole, revoke, issueElsewhere}},
		"limit":              {issue, limited, []activity{issue, otherRole}, []activity{login, revoke, issueElsewhere}},
		"fault of KSeF":      {issue, fault, []activity{issue, otherRole, revoke, login}, []activity{issueElsewhere, rotate}},
		"lost reply":         {issue, lost, []activity{issue, otherRole, revoke, login}, []activity{issueElsewhere, rotate}},
		"storage":            {issue, storage, []activity{issue, otherRole}, []activity{login, revoke, issueElsewhere}},
		"token":              {revoke, refused, []activity{revoke}, []activity{otherToken, issue, login}},
		"limit of the token": {revoke, limited, []activity{revoke, otherToken}, []activity{issue, login}},
		"rotation":           {rotate, fault, []activity{rotate}, []activity{issue, login, revoke}},
	} {
		failed := failure{activity: test.failed, err: fmt.Errorf("wrapped: %w", test.err)}
		for _, success := range test.resolves {
			require.True(t, failed.resolvedBy(success), "%s by %v", name, success)
		}
		for _, success := range test.not {
			require.False(t, failed.resolvedBy(success), "%s by %v", name, success)
		}
	}
}

func testFailuresLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all failures
		require.Nil(t, all.last())
		first, second := activity{kind: kindRotation, object: "1"}, activity{kind: kindRotation, object: "2"}
		all.failed(first, errors.New("first"))
		all.failed(second, errors.New("second"))
		<-time.After(time.Minute)
		all.succeeded(second)
		require.ErrorContains(t, all.last().err, "first", "it is not over")
		all.succeeded(first)
		require.ErrorContains(t, all.last().err, "second")
		require.Equal(t, time.Now(), all.last().resolvedAt)
		all.failed(first, errors.New("again"))
		require.Len(t, all, 2)
		require.Zero(t, all.last().resolvedAt)
		for i := range 2 * maxFailures {
			all.failed(activity{kind: kindIssue, object: fmt.Sprint(i)}, errors.New("many"))
		}
		require.Len(t, all, maxFailures)
	})
}
