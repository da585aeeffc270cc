// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/stretchr/testify/require"
)

const (
	testNIP = "5265877635"
	testURL = "https://ksef.test/v2"
)

// tester is what a test, or one run of a property, offers.
type tester interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// env is KSeF with what everybody in a test can see of it.
type env struct {
	t                  tester
	ksef               *simulator.Simulator
	transport          http.RoundTripper
	registry           *ratelimit.Registry
	logs               *syncBuffer
	requireConformance judge
	cert, key          string

	mu      sync.Mutex
	secrets []string
}

// inEnv runs a test in a bubble in which time passes when nobody works, and at its end looks for
// every secret of the run in the logs.
func inEnv(t *testing.T, options simulator.Options, test func(t *testing.T, w *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, options)
		test(t, w)
		w.requireNoSecretInLogs()
	})
}

func newEnv(t tester, options simulator.Options) *env {
	ksef, err := simulator.New(options)
	require.NoError(t, err)
	w := &env{t: t, ksef: ksef, registry: ratelimit.NewRegistry(), logs: &syncBuffer{}}
	w.transport = simulator.NewTransport(w.requireConformance.over(t, ksef.Handler()))
	w.cert, w.key = w.certificate(simulator.CertificateOptions{NIP: testNIP})
	return w
}

func (w *env) certificate(options simulator.CertificateOptions) (certificate, key string) {
	certPEM, keyPEM, err := simulator.NewCertificate(options)
	require.NoError(w.t, err)
	w.remember(string(keyPEM))
	return string(certPEM), string(keyPEM)
}

// remember notes a secret that no log may ever show.
func (w *env) remember(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			w.secrets = append(w.secrets, secret)
		}
	}
}

func (w *env) requireNoSecretInLogs() {
	w.mu.Lock()
	defer w.mu.Unlock()
	logs := w.logs.String()
	require.NotEmpty(w.t, logs, "a run without a log proves nothing")
	for _, secret := range w.secrets {
		for line := range strings.Lines(secret) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "-----") || len(line) < 16 {
				continue
			}
			require.NotContains(w.t, logs, line, "a secret reached the log")
		}
	}
}

// login logs in with a KSeF token as a program does, and returns KSeF's verdict.
func (w *env) login(token any) error {
	_, err := w.tokenLogin(token)
	return err
}

func (w *env) tokenLogin(token any) (*client.Tokens, error) {
	api, err := client.New(client.Config{URL: testURL, Transport: w.transport})
	require.NoError(w.t, err)
	ctx := w.t.Context()
	operation, err := api.BeginTokenLogin(ctx, client.ContextIdentifier{Type: client.ContextNIP, Value: testNIP}, client.Secret(token.(string)))
	require.NoError(w.t, err)
	return session.Finish(ctx, api, operation)
}

// requireLoginRefused is the proof that a token is dead: KSeF's status 450.
func (w *env) requireLoginRefused(token any) {
	w.t.Helper()
	var refused *client.LoginError
	require.ErrorAs(w.t, w.login(token), &refused)
	require.Equal(w.t, 450, refused.Status.Code)
}

// statusInKSeF is what KSeF's own list says of a token.
func (w *env) statusInKSeF(referenceNumber any) string {
	for _, token := range w.ksef.State().Tokens {
		if token.ReferenceNumber == referenceNumber {
			return token.Status
		}
	}
	return ""
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// fault makes KSeF's next answers go wrong.
func (w *env) fault(fault simulator.Fault) {
	w.t.Helper()
	w.requireConformance.faulty.Store(true)
	require.NoError(w.t, w.ksef.AddFault(fault))
}

// elapse lets time pass, and whoever has work at the end of it finish.
func (w *env) elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// requests counts what KSeF has answered at an endpoint, whatever the status.
func (w *env) requests(endpoint string) int {
	sum := 0
	for _, count := range w.ksef.State().Requests[endpoint] {
		sum += count
	}
	return sum
}
