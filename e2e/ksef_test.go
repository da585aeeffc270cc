// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/contract"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// startKSeF starts a simulator for one test and returns the address of its API.
func startKSeF(t testing.TB, secrets *secrets, options simulator.Options) (ksef *simulator.Simulator, url string) {
	t.Helper()
	ksef, server := serveKSeF(t, secrets, options)
	t.Cleanup(server.Close)
	return ksef, server.URL + "/v2"
}

// startKSeFOfScript starts a simulator for a script, which may control it.
func startKSeFOfScript(t *testing.T, env *testscript.Env, secrets *secrets) (url string) {
	_, server := serveKSeF(t, secrets, simulator.Options{})
	env.Defer(server.Close)
	env.Setenv("KSEF_CONTROL", server.URL+"/simulator")
	return server.URL + "/v2"
}

// serveKSeF checks all exchanges against KSeF's OpenAPI document in the directory that
// KSEF_CONTRACTS names, and records every secret that the simulator returns.
func serveKSeF(t testing.TB, secrets *secrets, options simulator.Options) (*simulator.Simulator, *httptest.Server) {
	ksef, err := simulator.New(options)
	require.NoError(t, err)
	return ksef, httptest.NewServer(underContract(t, secrets.middleware(ksef.Handler()), func(err error) {
		if !isFailure(err) {
			t.Errorf("the exchange is not as KSeF's OpenAPI says: %v", err)
		}
	}))
}

// isFailure reports whether a response is a redirect or a failure, which no contract documents: the
// simulator returns those for faults alone.
func isFailure(err error) bool {
	var disagreement *contract.Disagreement
	return errors.As(err, &disagreement) && (disagreement.Status >= 500 || disagreement.Status/100 == 3)
}

// underContract checks all exchanges against KSeF's OpenAPI document in the directory that
// KSEF_CONTRACTS names.
func underContract(t testing.TB, next http.Handler, report func(error)) http.Handler {
	dir := os.Getenv("KSEF_CONTRACTS")
	if dir == "" {
		return next
	}
	document, err := contract.Load(dir)
	require.NoError(t, err)
	return document.Middleware(next, report)
}

// control calls the simulator's control endpoints: control METHOD path [body]. The response is the
// standard output for the next commands.
func control(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: control METHOD path [body]")
	}
	_, err := ts.Stdout().Write(callControl(ts, args[0], args[1], strings.Join(args[2:], " ")))
	ts.Check(err)
}

func callControl(ts *testscript.TestScript, method, path, body string) []byte {
	request, err := http.NewRequest(method, ts.Getenv("KSEF_CONTROL")+"/"+path, strings.NewReader(body)) //nolint:noctx // bounded by the client
	ts.Check(err)
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	ts.Check(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	ts.Check(err)
	if response.StatusCode > 299 {
		ts.Fatalf("control %s %s: %s: %s", method, path, response.Status, answer)
	}
	return answer
}

// awaitKSeF waits until the simulator's state matches a regular expression, or no longer does if
// negated: await-ksef REGEXP. It waits longer than the engine's longest pause after a failure, 4
// minutes.
func awaitKSeF(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: await-ksef REGEXP")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	const limit = 5 * time.Minute
	for end := time.Now().Add(limit); time.Now().Before(end); <-time.After(200 * time.Millisecond) {
		if pattern.Match(callControl(ts, http.MethodGet, "state", "")) != neg {
			return
		}
	}
	ts.Fatalf("waited %s in vain for the simulator's state: %s", limit, args[0])
}
