// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/budget"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/errutil"
	"github.com/hashicorp/vault/sdk/logical"
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

// world is KSeF with what everybody in a test can see of it.
type world struct {
	t         tester
	ksef      *simulator.Simulator
	transport http.RoundTripper
	registry  *budget.Registry
	logs      *syncBuffer
	judge     judge
	cert, key string

	mu      sync.Mutex
	secrets []string
}

// inWorld runs a test in a bubble in which time passes when nobody works, and
// at its end looks for every secret of the run in the logs.
func inWorld(t *testing.T, options simulator.Options, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, options)
		test(t, w)
		w.requireNoSecretInLogs()
	})
}

func newWorld(t tester, options simulator.Options) *world {
	ksef, err := simulator.New(options)
	require.NoError(t, err)
	w := &world{t: t, ksef: ksef, registry: budget.NewRegistry(), logs: &syncBuffer{}}
	w.transport = simulator.NewTransport(w.judge.over(t, ksef.Handler()))
	w.cert, w.key = w.certificate(simulator.CertificateOptions{NIP: testNIP})
	return w
}

func (w *world) certificate(options simulator.CertificateOptions) (certificate, key string) {
	certPEM, keyPEM, err := simulator.NewCertificate(options)
	require.NoError(w.t, err)
	w.remember(string(keyPEM))
	return string(certPEM), string(keyPEM)
}

// remember notes a secret that no log may ever show.
func (w *world) remember(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			w.secrets = append(w.secrets, secret)
		}
	}
}

func (w *world) requireNoSecretInLogs() {
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

// mount is one mount of the engine, in a process that has a registry of its own
// and a way to KSeF.
type mount struct {
	*world
	ctx       context.Context // of the requests that Vault makes
	storage   logical.Storage
	transport http.RoundTripper
	registry  *budget.Registry
	backend   *backend
	events    *logical.MockEventSender
}

// mount makes a mount on the storage and starts it as Vault does.
func (w *world) mount(storage logical.Storage) *mount {
	m := &mount{
		world: w, ctx: w.t.Context(), storage: storage, transport: w.transport, registry: w.registry,
		events: logical.NewMockEventSender(),
	}
	m.start()
	return m
}

func (m *mount) start() {
	m.load()
	m.initialize()
}

// load is the first half of a start: Vault loads all mounts and then
// initializes them.
func (m *mount) load() {
	made, err := newFactory("v1.2.3", m.registry, m.transport)(m.t.Context(), &logical.BackendConfig{
		StorageView:  m.storage,
		System:       &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 32 * 24 * time.Hour},
		Logger:       hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: m.logs}),
		EventsSender: m.events,
	})
	require.NoError(m.t, err)
	m.backend = made.(*backend)
	m.backend.Logger().Trace("mount loaded")
}

func (m *mount) initialize() {
	require.NoError(m.t, m.backend.Initialize(m.t.Context(), &logical.InitializationRequest{Storage: m.storage}))
}

// stop unloads the mount as Vault does.
func (m *mount) stop() {
	m.backend.Cleanup(context.Background())
	m.rememberSessions()
}

// rememberSessions notes the bearer tokens that lie in storage.
func (m *mount) rememberSessions() {
	keys, err := m.storage.List(context.Background(), session.StoragePrefix)
	require.NoError(m.t, err)
	for _, key := range keys {
		entry, err := m.storage.Get(context.Background(), session.StoragePrefix+key)
		require.NoError(m.t, err)
		var stored struct {
			Access  string `json:"access"`
			Refresh string `json:"refresh"`
		}
		require.NoError(m.t, entry.DecodeJSON(&stored))
		m.remember(stored.Access, stored.Refresh)
	}
}

// withMount is a mount with a configuration that works, in a world of its own.
func withMount(t *testing.T, options simulator.Options, test func(t *testing.T, m *mount)) {
	t.Helper()
	inWorld(t, options, func(t *testing.T, w *world) {
		m := w.mount(&logical.InmemStorage{})
		defer m.stop()
		m.configure()
		test(t, m)
	})
}

func (m *mount) configure() {
	m.must(m.write("config", m.fields()))
}

// fields are a configuration that works.
func (w *world) fields() map[string]any {
	return map[string]any{"url": testURL, "nip": testNIP, "certificate": w.cert, "private_key": w.key}
}

func (m *mount) request(operation logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	request := &logical.Request{
		Operation: operation, Path: path, Data: data, Storage: m.storage,
		DisplayName: "token-app", MountPoint: "ksef/",
	}
	if operation == logical.UpdateOperation {
		checked, exists, err := m.backend.HandleExistenceCheck(m.ctx, request)
		var mistake errutil.UserError
		if errors.As(err, &mistake) {
			return logical.ErrorResponse(mistake.Error()), nil
		}
		if err != nil {
			return nil, err
		}
		if checked && !exists {
			request.Operation = logical.CreateOperation
		}
	}
	response, err := m.backend.HandleRequest(m.ctx, request)
	if response != nil && response.Secret != nil {
		m.remember(response.Data["token"].(string))
	}
	return response, err
}

func (m *mount) write(path string, data map[string]any) (*logical.Response, error) {
	return m.request(logical.UpdateOperation, path, data)
}

func (m *mount) read(path string, data map[string]any) (*logical.Response, error) {
	return m.request(logical.ReadOperation, path, data)
}

func (m *mount) list(path string) (*logical.Response, error) {
	return m.request(logical.ListOperation, path, nil)
}

func (m *mount) delete(path string) (*logical.Response, error) {
	return m.request(logical.DeleteOperation, path, nil)
}

// must is for requests that have to succeed.
func (m *mount) must(response *logical.Response, err error) *logical.Response {
	m.t.Helper()
	require.NoError(m.t, err)
	if response != nil {
		require.NoError(m.t, response.Error())
	}
	return response
}

// refused is for requests that have to be a 400, and returns its text.
func (m *mount) refused(response *logical.Response, err error) string {
	m.t.Helper()
	require.NoError(m.t, err)
	require.NotNil(m.t, response)
	require.True(m.t, response.IsError(), "the request must be refused")
	return response.Error().Error()
}

// issue makes the role that its permissions name and a token under it.
func (m *mount) issue() *logical.Response {
	m.t.Helper()
	m.must(m.write("roles/invoices", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "ttl": "1h", "max_ttl": "24h"}))
	return m.must(m.read("creds/invoices", nil))
}

// lease turns an answer into the secret that Vault would hand back later, its
// internal data passed through JSON.
func (m *mount) lease(response *logical.Response) *logical.Secret {
	m.t.Helper()
	require.NotNil(m.t, response.Secret)
	entry, err := logical.StorageEntryJSON("lease", response.Secret)
	require.NoError(m.t, err)
	var secret logical.Secret
	require.NoError(m.t, entry.DecodeJSON(&secret))
	secret.IssueTime = time.Now()
	return &secret
}

// revoke is Vault ending a lease.
func (m *mount) revoke(secret *logical.Secret) error {
	request := logical.RevokeRequest("creds/invoices", secret, nil)
	request.Storage = m.storage
	response, err := m.backend.HandleRequest(m.ctx, request)
	if err == nil && response != nil {
		err = response.Error()
	}
	return err
}

// renew is Vault renewing a lease by the increment; 0 asks for the default.
func (m *mount) renew(secret *logical.Secret, increment time.Duration) (*logical.Response, error) {
	secret.Increment = increment
	request := logical.RenewRequest("creds/invoices", secret, nil)
	request.Storage = m.storage
	return m.backend.HandleRequest(m.ctx, request)
}

// login logs in with a KSeF token as a program does, and returns KSeF's verdict.
func (w *world) login(token any) error {
	api, err := client.New(client.Config{URL: testURL, Transport: w.transport})
	require.NoError(w.t, err)
	ctx := w.t.Context()
	key, err := api.TokenKey(ctx)
	require.NoError(w.t, err)
	challenge, err := api.Challenge(ctx)
	require.NoError(w.t, err)
	operation, err := api.SubmitToken(ctx, challenge, client.Context{Type: client.ContextNIP, Value: testNIP}, client.Secret(token.(string)), key)
	require.NoError(w.t, err)
	_, err = session.Finish(ctx, api, operation)
	return err
}

// requireLoginRefused is the proof that a token is dead: KSeF's status 450.
func (w *world) requireLoginRefused(token any) {
	w.t.Helper()
	var refused *client.LoginError
	require.ErrorAs(w.t, w.login(token), &refused)
	require.Equal(w.t, 450, refused.Status.Code)
}

// statusInKSeF is what KSeF's own list says of a token.
func (w *world) statusInKSeF(referenceNumber any) string {
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
func (w *world) fault(fault simulator.Fault) {
	w.t.Helper()
	w.judge.faulty.Store(true)
	require.NoError(w.t, w.ksef.AddFault(fault))
}

// elapse lets time pass, and whoever has work at the end of it finish.
func (w *world) elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// requests counts what KSeF has answered at an endpoint, whatever the status.
func (w *world) requests(endpoint string) int {
	sum := 0
	for _, count := range w.ksef.State().Requests[endpoint] {
		sum += count
	}
	return sum
}
