// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package externallogin_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

// secretive is a KSeF that does not report whether a login has been redeemed: the field may be
// null.
type secretive struct{ http.RoundTripper }

func (s secretive) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := s.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	body = bytes.ReplaceAll(body, []byte(`"isTokenRedeemed":true`), []byte(`"isTokenRedeemed":null`))
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, err
}

const redeem = "POST /auth/token/redeem"

func TestRedeem(t *testing.T) {
	keep := func(*session.Session) error { return nil }
	for name, over := range map[string]func(http.RoundTripper) http.RoundTripper{
		"reply_lost": func(ksef http.RoundTripper) http.RoundTripper { return ksef },
		"reply_lost_and_status_silent": func(ksef http.RoundTripper) http.RoundTripper {
			return secretive{ksef}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simulator.Options{LoginDelay: time.Minute}, keep, func(t *testing.T, s *submitted) {
				s.replaceTransport(over)
				require.NoError(t, s.ksef.AddFault(simulator.Fault{Endpoint: redeem, Kind: simulator.FaultDropResponse}))
				<-time.After(time.Minute)
				began := time.Now()
				ended, err := s.logins.Await(t.Context(), s.challenge)
				require.True(t, ended)
				require.LessOrEqual(t, time.Since(began), 2*time.Second)
				require.LessOrEqual(t, s.count(redeem), 2)
				require.ErrorContains(t, err, "login/begin")
				require.Len(t, s.failures, 1)
				require.Len(t, s.lost, 1)
			})
		})
	}
	t.Run("request_lost", func(t *testing.T) {
		inBubble(t, simulator.Options{}, keep, func(t *testing.T, s *submitted) {
			require.NoError(t, s.ksef.AddFault(simulator.Fault{Endpoint: redeem, Kind: simulator.FaultDropRequest}))
			ended, err := s.logins.Await(t.Context(), s.challenge)
			require.NoError(t, err)
			require.True(t, ended)
			require.Empty(t, s.failures)
		})
	})
	t.Run("crash_after_the_session_was_kept", func(t *testing.T) {
		inBubble(t, simulator.Options{}, keep, func(t *testing.T, s *submitted) {
			require.NoError(t, s.ksef.AddFault(simulator.Fault{Endpoint: redeem, Kind: simulator.FaultDropResponse}))
			_, err := s.logins.Advance(t.Context())
			require.NoError(t, err)
			s.restart()
			s.kept = true
			ended, err := s.logins.Await(t.Context(), s.challenge)
			require.NoError(t, err)
			require.True(t, ended)
			require.Empty(t, s.failures)
		})
	})
	t.Run("crash_after_the_request", func(t *testing.T) {
		inBubble(t, simulator.Options{}, keep, func(t *testing.T, s *submitted) {
			require.NoError(t, s.ksef.AddFault(simulator.Fault{Endpoint: redeem, Kind: simulator.FaultDropResponse}))
			_, err := s.logins.Advance(t.Context())
			require.NoError(t, err)
			s.restart()
			began := time.Now()
			ended, err := s.logins.Await(t.Context(), s.challenge)
			require.True(t, ended)
			require.ErrorContains(t, err, "login/begin")
			require.Less(t, time.Since(began), time.Second)
			require.Equal(t, 1, s.count(redeem))
		})
	})
}
