// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// requireLives checks that an access token is valid for so long from now on, by its exp, by the
// validUntil of its response, and when it is used.
func (a *api) requireLives(issued response, want time.Duration) {
	a.t.Helper()
	access, end := issued.text("accessToken.token"), time.Now().Add(want)
	validUntil, err := time.Parse(time.RFC3339, issued.text("accessToken.validUntil"))
	require.NoError(a.t, err)
	require.True(a.t, end.Equal(validUntil), "%s", validUntil)
	claims := claimsOf(a.t, access)
	require.InDelta(a.t, end.Unix(), claims["exp"], 0)
	require.InDelta(a.t, time.Now().Unix(), claims["iat"], 0)

	time.Sleep(want - time.Nanosecond)
	a.want(http.StatusOK, "GET", "/tokens", access, nil)
	time.Sleep(time.Nanosecond)
	a.want(http.StatusUnauthorized, "GET", "/tokens", access, nil)
}

func TestAccessTokenLifetime(t *testing.T) {
	for lifetime, want := range map[time.Duration]time.Duration{0: 15 * time.Minute, 10 * time.Second: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			a := newAPI(t, simulator.Options{AccessTokenLifetime: lifetime})
			o := a.begin(seal(t), nipXML)
			opened := a.want(http.StatusOK, "POST", "/auth/token/redeem", o.token, nil)
			a.requireLives(opened, want)
			refresh := opened.text("refreshToken.token")
			a.requireLives(a.want(http.StatusOK, "POST", "/auth/token/refresh", refresh, nil), want)
			time.Sleep(7*24*time.Hour - 2*want - time.Nanosecond)
			a.want(http.StatusOK, "POST", "/auth/token/refresh", refresh, nil)
		})
	}
}

func TestAccessTokenLifetimeInvalid(t *testing.T) {
	for _, lifetime := range []time.Duration{-time.Second, 10*time.Second - 1, 15*time.Minute + 1} {
		_, err := simulator.New(simulator.Options{AccessTokenLifetime: lifetime})
		require.ErrorContains(t, err, "use 10s to 15m0s")
	}
}
