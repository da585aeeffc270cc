// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package report

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

func TestFailureResolvedBy(t *testing.T) {
	here, elsewhere := client.ContextIdentifier{Type: client.ContextNIP, Value: "5265877635"}, client.ContextIdentifier{Type: client.ContextNIP, Value: "1111111111"}
	login := Activity{Kind: Login, Taxpayer: here}
	issue, otherRole := Activity{Issue, here, "a"}, Activity{Issue, here, "b"}
	issueElsewhere := Activity{Issue, elsewhere, "a"}
	revoke, otherToken := Activity{Revoke, here, "1"}, Activity{Revoke, here, "2"}
	rotate := Activity{Kind: Rotation}

	refused := &client.APIError{Status: http.StatusBadRequest}
	limited := &client.APIError{Status: http.StatusTooManyRequests}
	fault := &client.APIError{Status: http.StatusInternalServerError}
	lost := &ledger.LostReplyError{Err: &client.TransportError{Sent: true, Err: errors.New("reset")}}
	storage := errors.New("no space left")
	for name, test := range map[string]struct {
		failed   Activity
		err      error
		resolves []Activity
		not      []Activity
	}{
		"login":              {login, &client.LoginError{}, []Activity{login, issue, revoke}, []Activity{issueElsewhere, rotate}},
		"role":               {issue, refused, []Activity{issue}, []Activity{login, otherRole, revoke, issueElsewhere}},
		"limit":              {issue, limited, []Activity{issue, otherRole}, []Activity{login, revoke, issueElsewhere}},
		"fault of KSeF":      {issue, fault, []Activity{issue, otherRole, revoke, login}, []Activity{issueElsewhere, rotate}},
		"lost reply":         {issue, lost, []Activity{issue, otherRole, revoke, login}, []Activity{issueElsewhere, rotate}},
		"storage":            {issue, storage, []Activity{issue, otherRole}, []Activity{login, revoke, issueElsewhere}},
		"token":              {revoke, refused, []Activity{revoke}, []Activity{otherToken, issue, login}},
		"limit of the token": {revoke, limited, []Activity{revoke, otherToken}, []Activity{issue, login}},
		"rotation":           {rotate, fault, []Activity{rotate}, []Activity{issue, login, revoke}},
	} {
		failed := Failure{Activity: test.failed, Err: fmt.Errorf("wrapped: %w", test.err)}
		for _, success := range test.resolves {
			require.True(t, failed.resolvedBy(success), "%s by %v", name, success)
		}
		for _, success := range test.not {
			require.False(t, failed.resolvedBy(success), "%s by %v", name, success)
		}
	}
}

func TestFailuresLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Notices
		last := func() *Failure {
			_, failed := n.Last()
			return failed
		}
		require.Nil(t, last())
		first, second := Activity{Kind: Rotation, Object: "1"}, Activity{Kind: Rotation, Object: "2"}
		n.SetOutcome(first, errors.New("first"))
		n.SetOutcome(second, errors.New("second"))
		<-time.After(time.Minute)
		n.SetOutcome(second, nil)
		require.ErrorContains(t, last().Err, "first", "it is not over")
		n.SetOutcome(first, nil)
		require.ErrorContains(t, last().Err, "second")
		require.Equal(t, time.Now(), last().ResolvedAt)
		n.SetOutcome(first, errors.New("again"))
		require.Len(t, n.failures, 2)
		require.Zero(t, last().ResolvedAt)
		for i := range 2 * maxFailures {
			n.SetOutcome(Activity{Kind: Issue, Object: fmt.Sprint(i)}, errors.New("many"))
		}
		require.Len(t, n.failures, maxFailures)
	})
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Notices
		require.True(t, n.Daily("a"))
		require.False(t, n.Daily("a"))
		require.True(t, n.Daily("b"))
		<-time.After(24 * time.Hour)
		require.True(t, n.Daily("a"))

		require.Empty(t, n.FreshWarning())
		n.SetWarning(client.Warning{Endpoint: "POST /tokens", Text: "soon gone", At: time.Now()})
		require.Equal(t, "KSeF warns at POST /tokens: soon gone", n.FreshWarning())
		<-time.After(31 * time.Second)
		require.Empty(t, n.FreshWarning())
		warning, failed := n.Last()
		require.Equal(t, "soon gone", warning.Text)
		require.Nil(t, failed)

		n.SetOutcome(Activity{Kind: Issue, Object: "writer"}, errors.New("refused"))
		n.RoleDeleted("reader")
		_, failed = n.Last()
		require.Zero(t, failed.ResolvedAt)
		n.RoleDeleted("writer")
		_, failed = n.Last()
		require.Equal(t, time.Now(), failed.ResolvedAt)
	})
}
