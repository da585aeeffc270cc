// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"

	"github.com/stretchr/testify/require"
)

func TestUnknown(t *testing.T) {
	begun := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	first := Unknown{}.next(begun, true)
	require.Equal(t, begun.Add(unknownLasts), first.decidedAt())

	later := first.next(begun.Add(unknownGap), true)
	require.Equal(t, first.Since, later.Since)
	require.Equal(t, begun.Add(unknownGap+time.Second), first.next(begun.Add(unknownGap+time.Second), true).Since, "KSeF was not asked for too long")

	stranger := first.next(begun.Add(time.Hour), false)
	require.Equal(t, first.Since, stranger.Since)
	require.Zero(t, stranger.decidedAt())
	require.Equal(t, begun.Add(2*time.Hour), stranger.next(begun.Add(2*time.Hour), true).Since)
}

func TestIsUnknown(t *testing.T) {
	invalid := []client.Problem{{Code: client.CodeInvalidValue}}
	for _, test := range []struct {
		refused client.APIError
		want    bool
	}{
		{client.APIError{Endpoint: client.EndpointToken, Status: http.StatusBadRequest, Problems: invalid}, true},
		{client.APIError{Endpoint: client.EndpointToken, Status: http.StatusNotFound}, true},
		{client.APIError{Endpoint: client.EndpointToken, Status: http.StatusGone}, true},
		{client.APIError{Endpoint: client.EndpointToken, Status: http.StatusBadRequest}, false},
		{client.APIError{Endpoint: client.EndpointToken, Status: http.StatusUnauthorized, Problems: invalid}, false},
		{client.APIError{Endpoint: client.EndpointToken, Status: http.StatusForbidden, Problems: invalid}, false},
		{client.APIError{Endpoint: client.EndpointRevokeToken, Status: http.StatusBadRequest, Problems: invalid}, false},
	} {
		require.Equal(t, test.want, isUnknown(&test.refused), test.refused.Error())
	}
}

func TestUnknownToken(t *testing.T) {
	forgotten := func(e *env) Lease {
		e.t.Helper()
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.login("5265877635", nil) // as after a reset of KSeF's TEST environment
		err := e.revoke(lease)
		e.requirePending(err, lease)
		require.True(e.t, IsUnknownToken(err))
		require.Len(e.t, e.UnknownTokens(), 1)
		return lease
	}
	bubble(t, "counts_as_dead_after_a_day", func(t *testing.T, e *env) {
		lease := forgotten(e)
		e.elapse(24*time.Hour - time.Minute)
		e.requirePending(e.revoke(lease), lease)
		e.elapse(2 * time.Minute)
		require.NoError(t, e.revoke(lease))
		require.Empty(t, e.keys(StoragePrefix))
	})
	bubble(t, "day_goes_on_after_a_restart", func(t *testing.T, e *env) {
		lease := forgotten(e)
		e.elapse(unknownLasts / 2)
		e.restart()
		e.elapse(unknownLasts/2 + time.Minute)
		require.NoError(t, e.revoke(lease))
	})
	bubble(t, "another_signer_does_not_decide", func(_ *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		e.ksef.login("another", nil)
		e.requirePending(e.revoke(lease), lease)
		e.elapse(unknownLasts + 2*unknownCheck) // while a dead record would still be there
		e.requirePending(e.revoke(lease), lease)
	})
	bubble(t, "is_revoked_where_KSeF_knows_it_again", func(t *testing.T, e *env) {
		lease, _ := e.mustIssue(time.Hour)
		tokens := e.ksef.login("5265877635", nil)
		e.requirePending(e.revoke(lease), lease)
		e.elapse(unknownLasts / 2)
		e.ksef.login("5265877635", tokens)
		e.elapse(unknownCheck)
		require.NoError(t, e.revoke(lease))
		require.Equal(t, client.StatusRevoked, e.ksef.status(lease.ReferenceNumber))
		require.Empty(t, e.UnknownTokens())
	})
	bubble(t, "operator_decides_at_once", func(t *testing.T, e *env) {
		lease := forgotten(e)
		require.NoError(t, e.CloseUnknown(t.Context(), e.stored(lease)))
		require.NoError(t, e.revoke(lease))
	})
	bubble(t, "operator_is_refused_where_KSeF_knows_it", func(t *testing.T, e *env) {
		lease, record := e.mustIssue(time.Hour)
		var input *client.InputError
		require.ErrorAs(t, e.CloseUnknown(t.Context(), record), &input)
		require.Equal(t, Live, e.stored(lease).State)
	})
}
