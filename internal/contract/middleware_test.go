// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

const good = `{"token":"secret","made":"2026-07-01T12:00:00.5+02:00","key":"AAEC"}`

func issue(t *testing.T, body string) *http.Request {
	request := send(t, http.MethodPost, "/v2/tokens", body)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("Authorization", "Bearer test")
	return request
}

func TestGoodTrafficIsNotReported(t *testing.T) {
	contract := load(t)
	for name, c := range map[string]struct {
		next    http.Handler
		request *http.Request
	}{
		"issue":      {answering(202, "application/json", good), issue(t, `{"description":"enough"}`)},
		"limit":      {limited("30"), issue(t, `{"description":"enough"}`)},
		"refused":    {answering(401, "application/problem+json", `{"detail":"x"}`), issue(t, `{"description":"enough"}`)},
		"as labeled": {answering(401, "application/json; charset=utf-8", `{"detail":"x"}`), issue(t, `{"description":"enough"}`)},
		"get":        {answering(200, "application/json", `{}`), send(t, http.MethodGet, "/v2/tokens/123?pageSize=20", "")},
		"delete":     {answering(204, "", ""), send(t, http.MethodDelete, "/v2/tokens/123", "")},
		"other path": {answering(500, "text/plain", "broken"), send(t, http.MethodGet, "/simulator/state", "")},
		"like it":    {answering(500, "text/plain", "broken"), send(t, http.MethodGet, "/v20/tokens", "")},
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, serve(contract, c.next, c.request)) })
	}
}

func limited(retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		answering(429, "application/problem+json", `{}`)(w, r)
	}
}

func TestBadRequestIsReported(t *testing.T) {
	contract := load(t)
	request := func(method, path string) *http.Request { return send(t, method, path, "") }
	anonymous := issue(t, `{"description":"enough"}`)
	anonymous.Header.Del("Authorization")
	wrongType := issue(t, `{"description":"enough"}`)
	wrongType.Header.Set("Content-Type", "text/plain")
	withBody := send(t, http.MethodDelete, "/v2/tokens/123", "{}")

	for name, c := range map[string]struct {
		request *http.Request
		next    http.Handler
		want    string
	}{
		"unknown path":      {request("GET", "/v2/nowhere"), answering(404, "", ""), "GET /v2/nowhere: request: no matching operation was found"},
		"unknown method":    {request("PUT", "/v2/tokens"), answering(405, "", ""), "PUT /v2/tokens: request: method not allowed"},
		"no login":          {anonymous, answering(202, "application/json", good), "has no bearer token"},
		"content type":      {wrongType, answering(202, "application/json", good), `"text/plain"`},
		"not JSON":          {issue(t, `{`), answering(202, "application/json", good), "failed to decode request body"},
		"missing property":  {issue(t, `{}`), answering(202, "application/json", good), `/description: property "description" is missing`},
		"too short":         {issue(t, `{"description":"abcd"}`), answering(202, "application/json", good), "/description: minimum string length is 5"},
		"path parameter":    {request("DELETE", "/v2/tokens/12"), answering(204, "", ""), `parameter "number" in path`},
		"query parameter":   {request("GET", "/v2/tokens/123?pageSize=9"), answering(200, "application/json", "{}"), `parameter "pageSize" in query`},
		"body not provided": {withBody, answering(204, "", ""), "request body not allowed"},
		"body missing":      {request("POST", "/v2/signed"), answering(200, "", ""), "value is required but missing"},
	} {
		t.Run(name, func(t *testing.T) {
			reported := serve(contract, c.next, c.request)
			require.Len(t, reported, 1)
			require.ErrorContains(t, reported[0], c.want)
			var disagreement *Disagreement
			require.ErrorAs(t, reported[0], &disagreement)
			require.Zero(t, disagreement.Status)
		})
	}
}

func TestBadResponseIsReported(t *testing.T) {
	contract := load(t)
	for name, c := range map[string]struct {
		next http.Handler
		want string
	}{
		"undocumented status":   {answering(500, "text/plain", "broken"), "response 500: the status is not documented"},
		"undocumented redirect": {answering(307, "", ""), "response 307: the status is not documented"},
		"status by default":     {http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "response 200: the status is not documented"},
		"content type":          {answering(202, "text/plain", good), `"text/plain"`},
		"no content type":       {answering(202, "", good), `""`},
		"not JSON":              {answering(202, "application/json", good[:20]), "failed to decode response body"},
		"empty":                 {answering(202, "application/json", ""), "failed to decode response body"},
		"missing property":      {answering(202, "application/json", `{"token":"x"}`), `/made: property "made" is missing`},
		"too long":              {answering(202, "application/json", strings.Replace(good, "secret", "very-secret", 1)), "/token: maximum string length is 10"},
		"time without zone":     {answering(202, "application/json", strings.Replace(good, "+02:00", "", 1)), "/made: "},
		"not base64":            {answering(202, "application/json", strings.Replace(good, "AAEC", "!", 1)), "/key: "},
		"header":                {limited("soon"), "Retry-After"},
		"refused otherwise":     {answering(401, "application/json", `{}`), `property "detail" is missing`},
		"limit labeled plainly": {answering(429, "application/json", `{}`), `"application/json"`},
	} {
		t.Run(name, func(t *testing.T) {
			reported := serve(contract, c.next, issue(t, `{"description":"enough"}`))
			require.Len(t, reported, 1)
			require.ErrorContains(t, reported[0], c.want)
			require.NotContains(t, reported[0].Error(), "very-secret")
			var disagreement *Disagreement
			require.ErrorAs(t, reported[0], &disagreement)
			require.NotZero(t, disagreement.Status)
		})
	}
	t.Run("body where none is documented", func(t *testing.T) {
		request := send(t, http.MethodPost, "/v2/signed", "<a/>")
		request.Header.Set("Content-Type", "application/xml")
		reported := serve(contract, answering(200, "text/plain", "more"), request)
		require.Len(t, reported, 1)
		require.ErrorContains(t, reported[0], "response 200: it has a body, and none is documented")
	})
}

func TestTrafficPassesUnchanged(t *testing.T) {
	spaced := `{ "description" : "enough" }`
	request := issue(t, spaced)
	request.URL.RawQuery = "b=2&a=1"
	var seen *http.Request
	var body []byte
	var flushing error
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-Test", "kept")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "one")
		flushing = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	})
	answer := httptest.NewRecorder()
	var reported []error
	load(t).Middleware(next, func(err error) { reported = append(reported, err) }).ServeHTTP(answer, request)

	require.Same(t, request, seen)
	require.NoError(t, flushing)
	require.Equal(t, spaced, string(body))
	require.Equal(t, "b=2&a=1", seen.URL.RawQuery)
	require.Equal(t, http.StatusTeapot, answer.Code)
	require.Equal(t, "kept", answer.Header().Get("X-Test"))
	require.Equal(t, "onetwo", answer.Body.String())
	require.True(t, answer.Flushed)
	require.Len(t, reported, 1)
	require.ErrorContains(t, reported[0], "response 418")
}

func TestInterimResponseIsNotTakenForTheFinalOne(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		answering(200, "application/json", "{}")(w, r)
	})
	server := httptest.NewServer(load(t).Middleware(next, func(err error) { t.Error(err) }))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v2/tokens/123", nil)
	require.NoError(t, err)
	answer, err := server.Client().Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

func TestBodyThatBreaksOffDoesSoForTheHandlerToo(t *testing.T) {
	broken := errors.New("connection reset")
	request := issue(t, "")
	request.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"desc`), iotest.ErrReader(broken)))
	var body []byte
	var err error
	reported := serve(load(t), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err = io.ReadAll(r.Body)
	}), request)
	require.Equal(t, `{"desc`, string(body))
	require.ErrorIs(t, err, broken)
	require.Len(t, reported, 1)
	require.ErrorIs(t, reported[0], broken)
}

func TestAbortedResponseStaysAborted(t *testing.T) {
	contract := load(t)
	for name, next := range map[string]http.HandlerFunc{
		"at once": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half way": func(w http.ResponseWriter, r *http.Request) {
			answering(202, "application/json", good[:10])(w, r)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var reported []error
			handler := contract.Middleware(next, func(err error) { reported = append(reported, err) })
			require.PanicsWithValue(t, http.ErrAbortHandler, func() {
				handler.ServeHTTP(httptest.NewRecorder(), issue(t, `{"description":"enough"}`))
			})
			require.Empty(t, reported)
		})
	}
}

// hijackable is a response whose connection can be taken over.
type hijackable struct {
	*httptest.ResponseRecorder
	connection net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.connection, nil, nil }

func TestHijackedConnectionIsLeftAlone(t *testing.T) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { require.NoError(t, errors.Join(ours.Close(), theirs.Close())) })
	var taken net.Conn
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { taken, _, _ = w.(http.Hijacker).Hijack() })
	load(t).Middleware(next, func(err error) { t.Error(err) }).
		ServeHTTP(hijackable{httptest.NewRecorder(), ours}, issue(t, `{"description":"enough"}`))
	require.Same(t, ours, taken)
}

func TestManyRequestsAreCheckedAtOnce(t *testing.T) {
	var lock sync.Mutex
	reported := map[string]int{}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "odd") {
			answering(500, "", "")(w, r)
			return
		}
		answering(202, "application/json", good)(w, r)
	})
	handler := load(t).Middleware(next, func(err error) {
		lock.Lock()
		defer lock.Unlock()
		reported[err.Error()]++
	})
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			text := [...]string{"even", "odd"}[i%2]
			handler.ServeHTTP(httptest.NewRecorder(), issue(t, fmt.Sprintf(`{"description":"number %d %s"}`, i, text)))
		})
	}
	group.Wait()
	require.Equal(t, map[string]int{"POST /v2/tokens: response 500: the status is not documented": 20}, reported)
}
