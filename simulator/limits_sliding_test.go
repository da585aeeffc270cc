// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

// retryAfter returns the wait that a refusal asks for.
func (a *api) retryAfter(got response) time.Duration {
	a.t.Helper()
	require.Equal(a.t, http.StatusTooManyRequests, got.status, "%v", got.body)
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	require.NoError(a.t, err)
	return time.Duration(seconds) * time.Second
}

func TestRateLimitWindowFreeAfterRetryAfter(t *testing.T) {
	tests := map[string]struct {
		limits simulator.Windows
		pause  time.Duration // between requests
		want   time.Duration // what the refusal says
		text   string
	}{
		"second": {simulator.Windows{PerSecond: 3}, 100 * time.Millisecond, time.Second, "3 żądań na sekundę"},
		"minute": {simulator.Windows{PerMinute: 3}, 10 * time.Second, 30 * time.Second, "3 żądań na minutę"},
		"hour":   {simulator.Windows{PerHour: 3}, 10 * time.Minute, 30 * time.Minute, "3 żądań na godzinę"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: test.limits}})
				s := a.login(seal(t), nipXML)
				for range 3 {
					s.access = a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh,
						nil).text("accessToken.token")
					a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
					time.Sleep(test.pause)
				}
				s.access = a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh,
					nil).text("accessToken.token")
				got := a.do("GET", "/tokens", s.access, nil)
				wait := a.retryAfter(got)
				require.Equal(t, test.want, wait)
				require.Contains(t, got.body["status"].(map[string]any)["details"].([]any)[0], test.text)

				time.Sleep(wait)
				s.access = a.want(http.StatusOK, "POST", "/auth/token/refresh", s.refresh,
					nil).text("accessToken.token")
				a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
			})
		})
	}
}

func TestRateLimitRequestLengthensBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: simulator.Windows{PerSecond: 1}}})
		s := a.login(seal(t), nipXML)
		a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
		require.Equal(t, time.Second, a.retryAfter(a.do("GET", "/tokens", s.access, nil)))
		require.Equal(t, 11*time.Second, a.retryAfter(a.do("GET", "/tokens", s.access, nil)))
		require.Equal(t, 21*time.Second, a.retryAfter(a.do("GET", "/tokens", s.access, nil)))
		time.Sleep(21*time.Second - time.Nanosecond)
		require.Equal(t, 11*time.Second, a.retryAfter(a.do("GET", "/tokens", s.access, nil)))
		time.Sleep(11 * time.Second)
		a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
		require.Equal(t, map[string]int{"200": 2, "429": 4}, a.sim.State().Requests["GET /tokens"])
	})
}

func TestRateLimitWindowsPerEndpointAndContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{Limits: simulator.Limits{Context: simulator.Windows{PerSecond: 1}}})
		first, unit := a.login(seal(t), nipXML), a.login(seal(t), "<InternalId>5265877635-12346</InternalId>")
		a.want(http.StatusOK, "GET", "/tokens", first.access, nil)
		a.want(http.StatusTooManyRequests, "GET", "/tokens", a.login(seal(t), nipXML).access, nil)
		a.want(http.StatusOK, "GET", "/tokens", unit.access, nil)
		a.want(http.StatusOK, "GET", "/auth/sessions", first.access, nil)
		reference, _ := a.issue(first, "InvoiceRead")
		a.want(http.StatusOK, "GET", "/tokens/"+reference, first.access, nil)
		a.want(http.StatusNoContent, "DELETE", "/tokens/"+reference, first.access, nil)
		a.want(http.StatusTooManyRequests, "DELETE", "/tokens/20250625-EC-20F5EE4000-DA48AE4124-46", first.access, nil)
	})
}

func TestRateLimitDefaultsAndReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		for range 10 {
			a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
		}
		a.retryAfter(a.do("GET", "/tokens", s.access, nil))
		for range 59 { // the login has used one
			a.challenge()
		}
		a.retryAfter(a.do("POST", "/auth/challenge", "", nil))

		other := a.want(http.StatusOK, "GET", "/rate-limits", s.access, nil).body["other"]
		require.Equal(t, windows(10, 30, 120), other)
		a.sim.SetLimits(unlimited())
		for range 200 {
			a.want(http.StatusOK, "GET", "/tokens", s.access, nil)
			a.challenge()
		}
		for group, shown := range a.rateLimits(s) {
			require.Equal(t, windows(-1, -1, -1), shown, group)
		}
	})
}

func TestRateLimitPerAddressBeforeLogin(t *testing.T) {
	sim, err := simulator.New(simulator.Options{Limits: simulator.Limits{Client: simulator.Windows{PerMinute: 1}}})
	require.NoError(t, err)
	challenge := func(address string) int {
		transport := simulator.NewTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = address
			sim.Handler().ServeHTTP(w, r)
		}))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://ksef.test/v2/auth/challenge",
			nil)
		require.NoError(t, err)
		response, err := transport.RoundTrip(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, 200, challenge("192.0.2.1:1000"))
	require.Equal(t, 429, challenge("192.0.2.1:2000"))
	require.Equal(t, 200, challenge("192.0.2.2:1000"))
	require.Equal(t, 200, challenge("[2001:db8::1]:1000"))
	require.Equal(t, 429, challenge("[::ffff:192.0.2.1]:1000"))
}
