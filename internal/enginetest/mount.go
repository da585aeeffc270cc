// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vault-plugin-secrets-ksef/internal/unreadable"
	"vault-plugin-secrets-ksef/simulator"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/errutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Mount is one mount of the engine.
type Mount struct {
	*Env
	Ctx     context.Context // of the requests that Vault makes
	Storage logical.Storage
	Backend logical.Backend
	Events  *logical.MockEventSender
	// View is what the engine sees of Vault; nil until the first start.
	View *TaintableView

	factory logical.Factory // nil for that of the environment
}

// Mount makes a mount on the storage and starts it as Vault does.
func (env *Env) Mount(storage logical.Storage) *Mount {
	m := env.NewMount(storage)
	m.Start()
	return m
}

// NewMount makes a mount without starting it.
func (env *Env) NewMount(storage logical.Storage) *Mount {
	return &Mount{Env: env, Ctx: env.T.Context(), Storage: storage, Events: logical.NewMockEventSender()}
}

// UseOwnProcess has the mount start from now on in a process of its own, with a way to KSeF.
func (m *Mount) UseOwnProcess(transport http.RoundTripper) { m.factory = newFactory(transport) }

// Start loads and initializes the mount, as Vault does.
func (m *Mount) Start() {
	m.Load()
	m.Initialize()
}

// Load is the first half of a start: Vault loads all mounts and then initializes them.
func (m *Mount) Load() {
	if m.View == nil {
		m.View = &TaintableView{StaticSystemView: *MountDefaults()}
	}
	factory := m.factory
	if factory == nil {
		factory = m.Env.factory
	}
	made, err := factory(m.T.Context(), &logical.BackendConfig{
		StorageView:  m.Storage,
		System:       m.View,
		Logger:       hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: m.Logs}),
		EventsSender: m.Events,
	})
	require.NoError(m.T, err)
	m.Backend = made
	m.Backend.Logger().Trace("mount loaded")
}

// Route returns the definition of the path that serves a request.
func (m *Mount) Route(path string) *framework.Path {
	return m.Backend.(interface {
		Route(path string) *framework.Path
	}).Route(path)
}

// MountDefaults is the view of a mount with Vault's defaults.
func MountDefaults() *logical.StaticSystemView {
	return &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 32 * 24 * time.Hour}
}

// Initialize is the second half of a start.
func (m *Mount) Initialize() {
	require.NoError(m.T, m.Backend.Initialize(m.T.Context(), &logical.InitializationRequest{Storage: m.Storage}))
}

// Stop unloads the mount as Vault does.
func (m *Mount) Stop() {
	m.Backend.Cleanup(context.Background())
	m.RememberSessions()
}

// RememberSessions adds the secrets in storage to those that no log may show.
func (m *Mount) RememberSessions() {
	ctx := context.Background()
	for _, key := range m.Keys("") {
		if strings.HasPrefix(key, "ledger/") {
			continue // records hold none, and a benchmark has 100,000
		}
		entry, err := unreadable.Storage(m.Storage).Get(ctx, key)
		require.NoError(m.T, err)
		if entry != nil {
			m.Remember(secretsIn(entry.Value)...)
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

// WithMount runs a test in a bubble, with a configured mount.
func WithMount(t *testing.T, options simulator.Options, test func(t *testing.T, m *Mount)) {
	t.Helper()
	InEnv(t, options, func(t *testing.T, env *Env) {
		m := env.Mount(&logical.InmemStorage{})
		defer m.Stop()
		m.Configure()
		test(t, m)
	})
}

// Configure writes ConfigFields.
func (m *Mount) Configure() {
	m.Must(m.Write("config", m.ConfigFields()))
}

// ConfigFields are a valid configuration.
func (env *Env) ConfigFields() map[string]any {
	return map[string]any{"url": URL, "nip": NIP, "certificate": env.Cert, "private_key": env.Key}
}

// Request makes a request as Vault does: an update of what does not exist is a create.
func (m *Mount) Request(operation logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	request := &logical.Request{
		Operation: operation, Path: path, Data: data, Storage: m.Storage,
		DisplayName: "token-app", MountPoint: "ksef/",
	}
	if operation == logical.UpdateOperation {
		checked, exists, err := m.Backend.HandleExistenceCheck(m.Ctx, request)
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
	response, err := m.Backend.HandleRequest(m.Ctx, request)
	for _, field := range []string{"token", "access_token"} {
		if response != nil {
			secret, _ := response.Data[field].(string)
			m.Remember(secret)
		}
	}
	return response, err
}

// Write makes an update or create request.
func (m *Mount) Write(path string, data map[string]any) (*logical.Response, error) {
	return m.Request(logical.UpdateOperation, path, data)
}

// Read makes a read request.
func (m *Mount) Read(path string, data map[string]any) (*logical.Response, error) {
	return m.Request(logical.ReadOperation, path, data)
}

// List makes a list request.
func (m *Mount) List(path string) (*logical.Response, error) {
	return m.Request(logical.ListOperation, path, nil)
}

// Delete makes a delete request.
func (m *Mount) Delete(path string) (*logical.Response, error) {
	return m.Request(logical.DeleteOperation, path, nil)
}

// Must fails the test if a request has failed.
func (m *Mount) Must(response *logical.Response, err error) *logical.Response {
	m.T.Helper()
	require.NoError(m.T, err)
	if response != nil {
		require.NoError(m.T, response.Error())
	}
	return response
}

// Refused fails the test if a request was not refused with 400, and returns the text.
func (m *Mount) Refused(response *logical.Response, err error) string {
	m.T.Helper()
	require.NoError(m.T, err)
	require.NotNil(m.T, response)
	require.True(m.T, response.IsError(), "the request must be refused")
	return response.Error().Error()
}

// Issue writes the role "invoices" and issues a token under it.
func (m *Mount) Issue() *logical.Response {
	m.T.Helper()
	m.Must(m.Write("roles/invoices", map[string]any{"permissions": "InvoiceRead,InvoiceWrite", "ttl": "1h", "max_ttl": "24h"}))
	return m.Must(m.Read("creds/invoices", nil))
}

// Lease returns the secret of a response as Vault hands it back later: through JSON.
func (env *Env) Lease(response *logical.Response) *logical.Secret {
	env.T.Helper()
	require.NotNil(env.T, response.Secret)
	entry, err := logical.StorageEntryJSON("lease", response.Secret)
	require.NoError(env.T, err)
	var secret logical.Secret
	require.NoError(env.T, entry.DecodeJSON(&secret))
	secret.IssueTime = time.Now()
	return &secret
}

// Revoke ends a lease as Vault does.
func (m *Mount) Revoke(secret *logical.Secret) error {
	request := logical.RevokeRequest("creds/invoices", secret, nil)
	request.MountPoint = "ksef/"
	request.Storage = m.Storage
	response, err := m.Backend.HandleRequest(m.Ctx, request)
	if err == nil && response != nil {
		err = response.Error()
	}
	return err
}

// Renew renews a lease as Vault does; an increment of 0 is the default.
func (m *Mount) Renew(secret *logical.Secret, increment time.Duration) (*logical.Response, error) {
	secret.Increment = increment
	request := logical.RenewRequest("creds/invoices", secret, nil)
	request.MountPoint = "ksef/"
	request.Storage = m.Storage
	return m.Backend.HandleRequest(m.Ctx, request)
}

// SentEvents are the events of the mount so far. It is for tests in a bubble.
func (m *Mount) SentEvents() []logical.MockEvent {
	synctest.Wait() // for what is being sent
	m.Events.Lock()
	defer m.Events.Unlock()
	return slices.Clone(m.Events.Events)
}

// CountEvents counts the events of a kind.
func (m *Mount) CountEvents(kind string) int {
	count := 0
	for _, event := range m.SentEvents() {
		if string(event.Type) == kind {
			count++
		}
	}
	return count
}

// RequireEvent fails the test if no event of a kind was sent.
func (m *Mount) RequireEvent(kind string) {
	m.T.Helper()
	require.Positive(m.T, m.CountEvents(kind), kind)
}

// TaintableView is the view of a mount that can be tainted.
type TaintableView struct {
	logical.StaticSystemView
	tainted atomic.Bool
}

// Tainted implements logical.SystemView.
func (v *TaintableView) Tainted() bool { return v.tainted.Load() }

// Rotate writes config/rotate-root and returns the response.
func (m *Mount) Rotate(fields map[string]any) map[string]any {
	m.T.Helper()
	return m.Must(m.Write("config/rotate-root", fields)).Data
}

// IssueMany issues tokens under the role "invoices", as fast as KSeF's limits allow.
func (m *Mount) IssueMany(count int) []*logical.Response {
	m.T.Helper()
	leases := make([]*logical.Response, 0, count)
	for len(leases) < count {
		response, err := m.Read("creds/invoices", nil)
		if err != nil {
			require.ErrorContains(m.T, err, "limit")
			m.Elapse(10 * time.Second)
			continue
		}
		leases = append(leases, m.Must(response, err))
	}
	return leases
}
