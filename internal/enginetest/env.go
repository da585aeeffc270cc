// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package enginetest runs the engine in a process with a simulated KSeF and a simulated Vault, for
// tests of paths and of the whole engine. Only tests import it.
package enginetest

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ksef "vault-plugin-secrets-ksef"
	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const (
	// NIP is the company of the default configuration, its own taxpayer and signer.
	NIP = "5265877635"
	// URL is the API of the simulated KSeF.
	URL = "https://ksef.test/v2"
	// Day is a day without a change of clocks.
	Day = 24 * time.Hour
)

// TB is what the harness needs of a test, or of one run of a property.
type TB interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// Env is a simulated KSeF, the ways to it, and the log and the secrets of a test.
type Env struct {
	T           TB
	KSeF        *simulator.Simulator
	Transport   http.RoundTripper
	Logs        *syncBuffer
	Conformance conformance
	Cert, Key   string

	factory logical.Factory // of the process that serves the mounts

	mu      sync.Mutex
	secrets []string
}

// InEnv runs a test in a synctest bubble. At its end no secret of the run may be in the log.
func InEnv(t *testing.T, options simulator.Options, test func(t *testing.T, env *Env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		env := NewEnv(t, options)
		test(t, env)
		env.RequireNoSecretInLogs()
	})
}

// keys are shared by all simulators: every bubble begins at the same time.
var keys = simulator.NewKeys()

// NewEnv starts a KSeF. It is called in a bubble.
func NewEnv(t TB, options simulator.Options) *Env {
	options.Keys = cmp.Or(options.Keys, keys)
	ksef, err := simulator.New(options)
	require.NoError(t, err)
	env := &Env{T: t, KSeF: ksef, Logs: &syncBuffer{}}
	env.SetTransport(simulator.NewTransport(env.Conformance.Check(t, ksef.Handler())))
	env.Cert, env.Key = env.NewCertificate(simulator.CertificateOptions{NIP: NIP})
	return env
}

// SetTransport replaces the way to KSeF of mounts that start from now on. They share a new process.
func (env *Env) SetTransport(transport http.RoundTripper) {
	env.Transport, env.factory = transport, newFactory(transport)
}

func newFactory(transport http.RoundTripper) logical.Factory {
	return ksef.Options{Version: "v1.2.3", Transport: transport}.Factory()
}

// NewCertificate returns a certificate and its key in PEM.
func (env *Env) NewCertificate(options simulator.CertificateOptions) (certificate, key string) {
	certPEM, keyPEM, err := simulator.NewCertificate(options)
	require.NoError(env.T, err)
	env.Remember(string(keyPEM))
	return string(certPEM), string(keyPEM)
}

// Remember adds secrets that no log may show.
func (env *Env) Remember(secrets ...string) {
	env.mu.Lock()
	defer env.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			env.secrets = append(env.secrets, secret)
		}
	}
}

// RequireNoSecretInLogs searches the log for each secret of the run.
func (env *Env) RequireNoSecretInLogs() {
	env.mu.Lock()
	defer env.mu.Unlock()
	logs := env.Logs.String()
	require.NotEmpty(env.T, logs, "a run without a log proves nothing")
	for _, secret := range env.secrets {
		for line := range strings.Lines(secret) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "-----") || len(line) < 16 {
				continue
			}
			require.NotContains(env.T, logs, line, "a secret reached the log")
		}
	}
}

// api is a client of the env's KSeF.
func (env *Env) api() *client.Client {
	env.T.Helper()
	api, err := client.New(client.Config{URL: URL, Transport: env.Transport})
	require.NoError(env.T, err)
	return api
}

// Login logs in with a KSeF token as a program does.
func (env *Env) Login(token any) error {
	_, err := env.TokenLogin(token)
	return err
}

// TokenLogin is Login with the session that it opens.
func (env *Env) TokenLogin(token any) (*client.Tokens, error) {
	api, ctx := env.api(), env.T.Context()
	operation, _, err := api.BeginTokenLogin(ctx, client.TokenLogin{
		Taxpayer: client.ContextIdentifier{Type: client.ContextNIP, Value: NIP}, Token: client.Secret(token.(string)),
	})
	require.NoError(env.T, err)
	return session.Complete(ctx, api, operation)
}

// RequireLoginRefused proves that a token is revoked: KSeF refuses its login with status 450.
func (env *Env) RequireLoginRefused(token any) {
	env.T.Helper()
	var refused *client.LoginError
	require.ErrorAs(env.T, env.Login(token), &refused)
	require.Equal(env.T, 450, refused.Status.Code)
}

// StatusInKSeF is the status of a token in KSeF; "" where KSeF does not know it.
func (env *Env) StatusInKSeF(referenceNumber any) string {
	for _, token := range env.KSeF.State().Tokens {
		if token.ReferenceNumber == referenceNumber {
			return token.Status
		}
	}
	return ""
}

// syncBuffer is a buffer that several goroutines write.
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

// Fault makes KSeF's next responses go wrong.
func (env *Env) Fault(fault simulator.Fault) {
	env.T.Helper()
	env.Conformance.faulty.Store(true)
	require.NoError(env.T, env.KSeF.AddFault(fault))
}

// Elapse lets time pass, and then all work end that needs no more time.
func (env *Env) Elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// Requests counts the requests that KSeF has answered at an endpoint, with any status.
func (env *Env) Requests(endpoint string) int {
	sum := 0
	for _, count := range env.KSeF.State().Requests[endpoint] {
		sum += count
	}
	return sum
}

// AllRequests counts the requests that KSeF has answered.
func (env *Env) AllRequests() int {
	sum := 0
	for endpoint := range env.KSeF.State().Requests {
		sum += env.Requests(endpoint)
	}
	return sum
}

// OpenSessions counts KSeF's sessions that were opened with a signature and can still be refreshed.
func (env *Env) OpenSessions() int {
	open := 0
	for _, session := range env.KSeF.State().Sessions {
		if session.Active && session.TokenReferenceNumber == "" {
			open++
		}
	}
	return open
}

// Certificates are the certificates that KSeF has issued and that have a status.
func (env *Env) Certificates(status string) []simulator.CertificateState {
	var found []simulator.CertificateState
	for _, one := range env.KSeF.State().Certificates {
		if one.Status == status {
			found = append(found, one)
		}
	}
	return found
}

// SecondGrant lets the company of NIP act for SecondNIP.
func SecondGrant() []simulator.Grant {
	return []simulator.Grant{{
		Identifier: simulator.Identifier{Type: simulator.TypeNIP, Value: NIP},
		Context:    simulator.Identifier{Type: simulator.TypeNIP, Value: SecondNIP},
	}}
}

// SecondNIP is another taxpayer. The company of NIP may act for it under SecondGrant.
const SecondNIP = "1111111111"
