// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"strings"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/helper/jsonutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Status reads the status.
func (m *Mount) Status() map[string]any {
	m.T.Helper()
	return m.Must(m.Read("status", nil)).Data
}

// StatusSummary is the summary of the status.
func (m *Mount) StatusSummary() string {
	m.T.Helper()
	return m.Status()["summary"].(string)
}

// StatusDetails are the nested values of status.
func (m *Mount) StatusDetails() map[string]any {
	m.T.Helper()
	return m.Status()["verbose"].(map[string]any)
}

// StatusWarnings are the warnings of the status, one a line.
func (m *Mount) StatusWarnings() string {
	m.T.Helper()
	return strings.Join(m.Must(m.Read("status", nil)).Warnings, "\n")
}

// ReadJSON reads a path as a client of Vault's API does.
func (m *Mount) ReadJSON(path string) map[string]any {
	m.T.Helper()
	return ThroughJSON(m.T, m.Must(m.Read(path, nil)).Data)
}

// ThroughJSON encodes and decodes a document, as Vault does on the way to a plugin.
func ThroughJSON(t require.TestingT, document map[string]any) map[string]any {
	encoded, err := json.Marshal(document)
	require.NoError(t, err)
	var decoded map[string]any
	require.NoError(t, jsonutil.DecodeJSON(encoded, &decoded))
	return decoded
}

// Stored is a storage entry; "" where there is none.
func (m *Mount) Stored(key string) string {
	m.T.Helper()
	entry, err := m.Storage.Get(m.T.Context(), key)
	require.NoError(m.T, err)
	if entry == nil {
		return ""
	}
	return string(entry.Value)
}

// Put writes a storage entry.
func (m *Mount) Put(key string, value []byte) {
	require.NoError(m.T, m.Storage.Put(m.Ctx, &logical.StorageEntry{Key: key, Value: value}))
}

// Keys are the storage keys with a prefix.
func (m *Mount) Keys(prefix string) []string {
	m.T.Helper()
	keys, err := logical.CollectKeysWithPrefix(context.Background(), m.Storage, prefix)
	require.NoError(m.T, err)
	return keys
}

// RequireEmptyLedger fails the test if the ledger has a record.
func (m *Mount) RequireEmptyLedger() {
	m.T.Helper()
	require.Empty(m.T, m.Keys("ledger/"))
}

// RequireNothingLeftOf fails the test if storage has a key with one of the prefixes.
func (m *Mount) RequireNothingLeftOf(prefixes ...string) {
	m.T.Helper()
	for _, prefix := range prefixes {
		require.Empty(m.T, m.Keys(prefix))
	}
}

// StoredConfig is what tests read of the stored configuration.
type StoredConfig struct {
	Context     client.ContextIdentifier `json:"context"`
	Certificate string                   `json:"certificate"`
	PrivateKey  string                   `json:"private_key"`
}

// readStoredConfig returns nil where nothing is configured.
func readStoredConfig(ctx context.Context, storage logical.Storage) (*StoredConfig, error) {
	entry, err := storage.Get(ctx, "config")
	if err != nil || entry == nil {
		return nil, err
	}
	var stored StoredConfig
	return &stored, entry.DecodeJSON(&stored)
}

// StoredConfig reads the configuration in storage.
func (m *Mount) StoredConfig() StoredConfig {
	m.T.Helper()
	stored, err := readStoredConfig(m.T.Context(), m.Storage)
	require.NoError(m.T, err)
	require.NotNil(m.T, stored)
	m.Remember(stored.PrivateKey)
	return *stored
}

// Pair is the certificate and its key.
func (c StoredConfig) Pair() (tls.Certificate, error) {
	return tls.X509KeyPair([]byte(c.Certificate), []byte(c.PrivateKey))
}

// ConfigInForce is the stored configuration with its credential.
func (m *Mount) ConfigInForce() (StoredConfig, tls.Certificate) {
	m.T.Helper()
	stored := m.StoredConfig()
	pair, err := stored.Pair()
	require.NoError(m.T, err)
	return stored, pair
}

// storedSession is what tests read of a stored session.
type storedSession struct {
	ReferenceNumber string        `json:"reference_number"`
	Access          client.Secret `json:"access"`
	Refresh         client.Secret `json:"refresh"`
}

func (m *Mount) storedSessions() []storedSession {
	m.T.Helper()
	var all []storedSession
	for _, key := range m.Keys(session.StoragePrefix) {
		var stored storedSession
		require.NoError(m.T, json.Unmarshal([]byte(m.Stored(key)), &stored))
		all = append(all, stored)
	}
	return all
}

// spentOnIssuing is how many requests for tokens the engine counts in the hour, also those that
// KSeF has never seen.
func (m *Mount) spentOnIssuing() int {
	m.T.Helper()
	for _, usage := range m.StatusDetails()["rate_limits"].([]map[string]any) {
		if usage["endpoint"] == IssueEndpoint {
			return usage["hour"].(map[string]any)["used"].(int)
		}
	}
	return 0
}

// SeedUnlessGiven makes a run repeatable, so that a failure speaks of a change and not of luck;
// -rapid.seed=N plays others.
func SeedUnlessGiven(t *testing.T) {
	t.Helper()
	seed := flag.Lookup("rapid.seed")
	require.NotNil(t, seed)
	if seed.Value.String() == "0" {
		require.NoError(t, seed.Value.Set("20261123"))
	}
}
