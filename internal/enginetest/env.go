// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"bytes"
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
	NIP = "5265877635"
	URL = "https://ksef.test/v2"
)

// TB is what a test, or one run of a property, offers.
type TB interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// Env is KSeF with what everybody in a test can see of it.
type Env struct {
	T           TB
	KSeF        *simulator.Simulator
	Transport   http.RoundTripper
	Logs        *syncBuffer
	Conformance conformance
	Cert, Key   string

	factory logical.Factory // of the process whose mounts no other process serves

	mu      sync.Mutex
	secrets []string
}

// InEnv runs a test in a bubble in which time passes when nobody works, and at its end looks for
// every secret of the run in the logs.
func InEnv(t *testing.T, options simulator.Options, test func(t *testing.T, env *Env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		env := NewEnv(t, options)
		test(t, env)
		env.RequireNoSecretInLogs()
	})
}

func NewEnv(t TB, options simulator.Options) *Env {
	ksef, err := simulator.New(options)
	require.NoError(t, err)
	env := &Env{T: t, KSeF: ksef, Logs: &syncBuffer{}}
	env.SetTransport(simulator.NewTransport(env.Conformance.Check(t, ksef.Handler())))
	env.Cert, env.Key = env.NewCertificate(simulator.CertificateOptions{NIP: NIP})
	return env
}

// SetTransport leads the mounts that are made or started from now on to KSeF in another way. They
// run in a new process.
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

// Remember notes a secret that no log may ever show.
func (env *Env) Remember(secrets ...string) {
	env.mu.Lock()
	defer env.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			env.secrets = append(env.secrets, secret)
		}
	}
}

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

// Login logs in with a KSeF token as a program does, and returns KSeF's verdict.
func (env *Env) Login(token any) error {
	_, err := env.TokenLogin(token)
	return err
}

func (env *Env) TokenLogin(token any) (*client.Tokens, error) {
	api, err := client.New(client.Config{URL: URL, Transport: env.Transport})
	require.NoError(env.T, err)
	ctx := env.T.Context()
	operation, err := api.BeginTokenLogin(ctx, client.ContextIdentifier{Type: client.ContextNIP, Value: NIP}, client.Secret(token.(string)))
	require.NoError(env.T, err)
	return session.Complete(ctx, api, operation)
}

// RequireLoginRefused is the proof that a token is dead: KSeF's status 450.
func (env *Env) RequireLoginRefused(token any) {
	env.T.Helper()
	var refused *client.LoginError
	require.ErrorAs(env.T, env.Login(token), &refused)
	require.Equal(env.T, 450, refused.Status.Code)
}

// StatusInKSeF is what KSeF's own list says of a token.
func (env *Env) StatusInKSeF(referenceNumber any) string {
	for _, token := range env.KSeF.State().Tokens {
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

// Fault makes KSeF's next answers go wrong.
func (env *Env) Fault(fault simulator.Fault) {
	env.T.Helper()
	env.Conformance.faulty.Store(true)
	require.NoError(env.T, env.KSeF.AddFault(fault))
}

// Elapse lets time pass, and whoever has work at the end of it finish.
func (env *Env) Elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// Requests counts what KSeF has answered at an endpoint, whatever the status.
func (env *Env) Requests(endpoint string) int {
	sum := 0
	for _, count := range env.KSeF.State().Requests[endpoint] {
		sum += count
	}
	return sum
}

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

// Certificates are those of a status that KSeF has issued.
func (env *Env) Certificates(status string) []simulator.CertificateState {
	var found []simulator.CertificateState
	for _, one := range env.KSeF.State().Certificates {
		if one.Status == status {
			found = append(found, one)
		}
	}
	return found
}

const Day = 24 * time.Hour

func SecondGrant() []simulator.Grant {
	return []simulator.Grant{{
		Identifier: simulator.Identifier{Type: simulator.TypeNIP, Value: NIP},
		Context:    simulator.Identifier{Type: simulator.TypeNIP, Value: SecondNIP},
	}}
}

// SecondNIP is another taxpayer, for whom the company of NIP may act where the simulator has the
// grant of it.
const SecondNIP = "1111111111"
