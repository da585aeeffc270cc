// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator"
)

var tokenBody = map[string]any{"permissions": []string{"InvoiceRead"}, "description": "Token testowy"}

// transports returns the two ways to reach a simulator: overSocket and inProcess. Faults must look
// the same in both.
func transports(t *testing.T, sim *simulator.Simulator) map[string]*http.Client {
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.Close)
	socket := server.Client().Transport
	redirect := roundTripper(func(r *http.Request) (*http.Response, error) {
		r.URL.Host = strings.TrimPrefix(server.URL, "http://")
		return socket.RoundTrip(r)
	})
	return map[string]*http.Client{"socket": {Transport: redirect}, "process": {Transport: sim.Transport()}}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFaultSameOverSocketAndInProcess(t *testing.T) {
	tests := map[string]struct {
		fault  simulator.Fault
		tokens int // made nevertheless
		count  string
		check  func(t *testing.T, resp *http.Response, err error)
	}{
		"drop-request": {simulator.Fault{Kind: simulator.FaultDropRequest}, 0, "dropped",
			func(t *testing.T, _ *http.Response, err error) {
				require.ErrorIs(t, err, io.EOF)
			}},
		"drop-reply": {simulator.Fault{Kind: simulator.FaultDropResponse}, 1, "dropped",
			func(t *testing.T, _ *http.Response, err error) {
				require.ErrorIs(t, err, io.EOF)
			}},
		"status": {simulator.Fault{Kind: simulator.FaultStatus, Status: 503, RetryAfter: 60}, 0, "503",
			func(t *testing.T, resp *http.Response, err error) {
				require.NoError(t, err)
				require.Equal(t, 503, resp.StatusCode)
				require.Equal(t, "60", resp.Header.Get("Retry-After"))
			}},
		"truncate": {simulator.Fault{Kind: simulator.FaultTruncate}, 1, "202",
			func(t *testing.T, resp *http.Response, err error) {
				require.NoError(t, err)
				require.Equal(t, 202, resp.StatusCode)
				data, err := io.ReadAll(resp.Body)
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				require.Len(t, data, int(resp.ContentLength)/2)
			}},
		"garbage": {simulator.Fault{Kind: simulator.FaultGarbage}, 1, "202",
			func(t *testing.T, resp *http.Response, err error) {
				require.NoError(t, err)
				require.Equal(t, 202, resp.StatusCode)
				data, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.False(t, json.Valid(data))
			}},
		"delay": {simulator.Fault{Kind: simulator.FaultDelay, Delay: time.Millisecond}, 1, "202",
			func(t *testing.T, resp *http.Response, err error) {
				require.NoError(t, err)
				require.Equal(t, 202, resp.StatusCode)
			}},
	}
	for name, test := range tests {
		for _, way := range []string{"socket", "process"} {
			t.Run(name+" "+way, func(t *testing.T) {
				a := newAPI(t, simulator.Options{})
				s := a.login(seal(t), nipXML)
				test.fault.Endpoint = "POST /tokens"
				require.NoError(t, a.sim.AddFault(test.fault))
				a.client = transports(t, a.sim)[way]
				resp, err := a.send("POST", "/v2/tokens", s.access, tokenBody)
				if err == nil {
					defer func() { require.NoError(t, resp.Body.Close()) }()
				}
				test.check(t, resp, err)
				require.Len(t, a.sim.State().Tokens, test.tokens)
				require.Equal(t, map[string]int{test.count: 1}, a.sim.State().Requests["POST /tokens"])
				a.want(http.StatusAccepted, "POST", "/tokens", s.access, tokenBody)
			})
		}
	}
}

func TestFaultTimesAndOrder(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	for _, fault := range []simulator.Fault{
		{Endpoint: "GET /tokens", Kind: simulator.FaultStatus, Status: 500, Times: 2},
		{Endpoint: "*", Kind: simulator.FaultStatus, Status: 503, Times: -1},
		{Endpoint: "GET /tokens", Kind: simulator.FaultStatus, Status: 429},
	} {
		require.NoError(t, a.sim.AddFault(fault))
	}
	for _, want := range []int{500, 500, 503, 503, 503} {
		a.want(want, "GET", "/tokens", s.access, nil)
	}
	a.want(503, "POST", "/auth/challenge", "", nil)
	a.sim.ClearFaults()
	a.want(200, "GET", "/tokens", s.access, nil)
}

func TestFaultStatusHasKSeFsBody(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	s := a.login(seal(t), nipXML)
	o := a.begin(seal(t), nipXML)
	for _, format := range []string{"", "problem-details"} {
		a.header.Set("X-Error-Format", format)
		for _, status := range []int{400, 401, 403, 429, 500} {
			require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "GET /tokens", Kind: simulator.FaultStatus,
				Status: status}))
			require.NotEmpty(t, a.want(status, "GET", "/tokens", s.access, nil).body)
		}
		require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "GET /auth/{referenceNumber}",
			Kind: simulator.FaultStatus, Status: 410}))
		require.Equal(t, "Gone", a.want(410, "GET", "/auth/"+o.reference, o.token, nil).text("title"))
	}
}

func TestFaultDelayEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, simulator.Options{})
		s := a.login(seal(t), nipXML)
		require.NoError(t, a.sim.AddFault(simulator.Fault{Endpoint: "POST /tokens", Kind: simulator.FaultDelay,
			Delay: time.Minute, Times: 2}))
		a.client.Timeout = 10 * time.Second
		begin := time.Now()
		_, err := a.send("POST", "/v2/tokens", s.access, tokenBody) //nolint:bodyclose // there is no response
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Empty(t, a.sim.State().Tokens)
		require.Equal(t, map[string]int{"dropped": 1}, a.sim.State().Requests["POST /tokens"])

		a.client.Timeout = 2 * time.Minute
		begin = time.Now()
		a.want(http.StatusAccepted, "POST", "/tokens", s.access, tokenBody)
		require.Equal(t, time.Minute, time.Since(begin))
	})
}

func TestFaultInvalid(t *testing.T) {
	a := newAPI(t, simulator.Options{})
	tests := map[string]simulator.Fault{
		"endpoint \"POST /token\"": {Endpoint: "POST /token", Kind: simulator.FaultGarbage},
		"kind \"explode\"":         {Endpoint: "*", Kind: "explode"},
		"status 200":               {Endpoint: "*", Kind: simulator.FaultStatus, Status: 200},
		"delay 0s":                 {Endpoint: "*", Kind: simulator.FaultDelay},
		"retry_after -1": {Endpoint: "*", Kind: simulator.FaultStatus, Status: 503,
			RetryAfter: -1},
		"is for the endpoint \"POST /tokens\"": {Endpoint: "GET /tokens", Kind: simulator.FaultFailActivation},
		"is for the endpoint \"POST /certificates/enrollments\"": {Endpoint: "*", Kind: simulator.FaultFailEnrollment,
			Status: 500},
		"status 503": {Endpoint: "POST /certificates/enrollments", Kind: simulator.FaultFailEnrollment, Status: 503},
	}
	for text, fault := range tests {
		require.ErrorContains(t, a.sim.AddFault(fault), text)
	}
}

func TestTransportPassesOnPanics(t *testing.T) {
	fault := errors.New("a fault of the handler")
	transport := simulator.NewTransport(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(fault) }))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://ksef.test/", nil)
	require.NoError(t, err)
	require.PanicsWithError(t, fault.Error(),
		func() { _, _ = transport.RoundTrip(request) }) //nolint:bodyclose // it panics
}

// The server notices that a client has disconnected during a delay, also before the body is read,
// and then does not count the request.
func TestFaultDelayDroppedWhenClientDisconnects(t *testing.T) {
	sim, err := simulator.New(simulator.Options{})
	require.NoError(t, err)
	server := httptest.NewServer(sim.Handler())
	defer server.Close()
	require.NoError(t, sim.AddFault(simulator.Fault{Endpoint: "POST /tokens", Kind: simulator.FaultDelay,
		Delay: time.Hour}))
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v2/tokens",
		strings.NewReader(`{"permissions":["InvoiceRead"]}`))
	require.NoError(t, err)
	time.AfterFunc(50*time.Millisecond, leave)
	resp, err := http.DefaultClient.Do(request)
	if err == nil {
		_ = resp.Body.Close()
	}
	require.Error(t, err)
	require.Eventually(t, func() bool { return sim.State().Requests["POST /tokens"]["dropped"] == 1 }, 5*time.Second,
		10*time.Millisecond)
}
