// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/errutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// mount is one mount of the engine, in a process that has a registry of its own and a way to KSeF.
type mount struct {
	*env
	ctx       context.Context // of the requests that Vault makes
	storage   logical.Storage
	transport http.RoundTripper
	registry  *ratelimit.Registry
	backend   *backend
	events    *logical.MockEventSender
	// view is Vault's view of the mount; nil is that of one without a past.
	view *taintableView
}

// mount makes a mount on the storage and starts it as Vault does.
func (w *env) mount(storage logical.Storage) *mount {
	m := &mount{
		env: w, ctx: w.t.Context(), storage: storage, transport: w.transport, registry: w.registry,
		events: logical.NewMockEventSender(),
	}
	m.start()
	return m
}

func (m *mount) start() {
	m.load()
	m.initialize()
}

// load is the first half of a start: Vault loads all mounts and then initializes them.
func (m *mount) load() {
	if m.view == nil {
		m.view = &taintableView{StaticSystemView: *mountDefaults()}
	}
	made, err := newFactory("v1.2.3", m.registry, m.transport)(m.t.Context(), &logical.BackendConfig{
		StorageView:  m.storage,
		System:       m.view,
		Logger:       hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: m.logs}),
		EventsSender: m.events,
	})
	require.NoError(m.t, err)
	m.backend = made.(*backend)
	m.backend.Logger().Trace("mount loaded")
}

// mountDefaults is Vault's view of a mount.
func mountDefaults() *logical.StaticSystemView {
	return &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 32 * 24 * time.Hour}
}

func (m *mount) initialize() {
	require.NoError(m.t, m.backend.Initialize(m.t.Context(), &logical.InitializationRequest{Storage: m.storage}))
}

// stop unloads the mount as Vault does.
func (m *mount) stop() {
	m.backend.Cleanup(context.Background())
	m.rememberSessions()
}

// rememberSessions notes the secrets that lie in storage.
func (m *mount) rememberSessions() {
	ctx := context.Background()
	keys, err := logical.CollectKeys(ctx, m.storage)
	require.NoError(m.t, err)
	for _, key := range keys {
		if strings.HasPrefix(key, "ledger/") {
			continue // records hold none, and a benchmark has 100,000
		}
		entry, err := readable(m.storage).Get(ctx, key)
		require.NoError(m.t, err)
		if entry != nil {
			m.remember(secretsIn(entry.Value)...)
		}
	}
}

// secretNames are the names under which secrets are stored, and nothing else.
var secretNames = regexp.MustCompile(`"(?:access|refresh|operation|private_key)":("(?:[^"\\]|\\.)*")`)

// secretsIn finds the secrets of a storage entry.
func secretsIn(value []byte) []string {
	var found []string
	for _, match := range secretNames.FindAllSubmatch(value, -1) {
		var secret string
		if json.Unmarshal(match[1], &secret) == nil && secret != "" {
			found = append(found, secret)
		}
	}
	return found
}

// withMount is a mount with a configuration that works, in a world of its own.
func withMount(t *testing.T, options simulator.Options, test func(t *testing.T, m *mount)) {
	t.Helper()
	inEnv(t, options, func(t *testing.T, w *env) {
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
func (w *env) fields() map[string]any {
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

// lease turns an answer into the secret that Vault would hand back later, its internal data passed
// through JSON.
func (w *env) lease(response *logical.Response) *logical.Secret {
	w.t.Helper()
	require.NotNil(w.t, response.Secret)
	entry, err := logical.StorageEntryJSON("lease", response.Secret)
	require.NoError(w.t, err)
	var secret logical.Secret
	require.NoError(w.t, entry.DecodeJSON(&secret))
	secret.IssueTime = time.Now()
	return &secret
}

// revoke is Vault ending a lease.
func (m *mount) revoke(secret *logical.Secret) error {
	request := logical.RevokeRequest("creds/invoices", secret, nil)
	request.MountPoint = "ksef/"
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
	request.MountPoint = "ksef/"
	request.Storage = m.storage
	return m.backend.HandleRequest(m.ctx, request)
}

// sent are the events so far.
func (m *mount) sent() []logical.MockEvent {
	m.events.Lock()
	defer m.events.Unlock()
	return slices.Clone(m.events.Events)
}

func (m *mount) countEvents(kind string) int {
	count := 0
	for _, event := range m.sent() {
		if string(event.Type) == kind {
			count++
		}
	}
	return count
}

func (m *mount) requireEvent(kind string) {
	m.t.Helper()
	require.Positive(m.t, m.countEvents(kind), kind)
}
