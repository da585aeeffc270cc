// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"encoding/json"
	"testing"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/ledger"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestLease_survives_storage(t *testing.T) {
	written := lease{
		Version: leaseVersion, TTL: 1 << 62, MaxTTL: 3600,
		Lease: ledger.Lease{
			Nonce: "079c2f146d2dce40490c25", ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45", Role: "invoices",
			Target: ledger.Target{API: client.TestURL, Context: client.ContextIdentifier{Type: client.ContextInternalID, Value: "5265877635-12346"}},
		},
	}
	encoded, err := json.Marshal(logical.Secret{InternalData: written.internal()})
	require.NoError(t, err)
	var stored logical.Secret
	require.NoError(t, json.Unmarshal(encoded, &stored))
	decoded, err := decodeLease(&logical.Secret{InternalData: written.internal()})
	require.NoError(t, err)
	require.Equal(t, written, *decoded)
}

// TestLease_stored_format has the lease data of a mount as the first version wrote it.
func TestLease_stored_format(t *testing.T) {
	var internal map[string]any
	require.NoError(t, json.Unmarshal([]byte(`{
		"version": 1, "nonce": "079c2f146d2dce40490c25", "reference_number": "20251010-EC-1DCE3E3000-12ECB5B36E-45",
		"api": "https://api-test.ksef.mf.gov.pl/v2", "context": {"type": "InternalId", "value": "5265877635-12346"},
		"role": "invoices", "ttl": 3600000000000, "max_ttl": 86400000000000, "secret_type": "ksef_token"
	}`), &internal))
	decoded, err := decodeLease(&logical.Secret{InternalData: internal})
	require.NoError(t, err)
	require.Equal(t, lease{
		Version: 1, TTL: time.Hour, MaxTTL: 24 * time.Hour,
		Lease: ledger.Lease{
			Nonce: "079c2f146d2dce40490c25", ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45", Role: "invoices",
			Target: ledger.Target{
				API:     "https://api-test.ksef.mf.gov.pl/v2",
				Context: client.ContextIdentifier{Type: client.ContextInternalID, Value: "5265877635-12346"},
			},
		},
	}, *decoded)
	again, err := json.Marshal(decoded.internal())
	require.NoError(t, err)
	stored, err := json.Marshal(internal)
	require.NoError(t, err)
	require.JSONEq(t, string(stored), string(again), "and writes it alike")
}

// FuzzLease holds that no lease data makes the engine panic: one panic would end the process of
// every mount.
func FuzzLease(f *testing.F) {
	f.Add([]byte(`{"version":1,"nonce":"079c2f146d2dce40490c25","reference_number":"20251010-EC-1DCE3E3000-12ECB5B36E-45","context":{"type":"Nip","value":"5265877635"},"ttl":1e9}`))
	f.Add([]byte(`{"version":"1","context":[],"ttl":-1}`))
	f.Add([]byte(`{"reference_number":{"a":1},"max_ttl":1e300}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var internal map[string]any
		if json.Unmarshal(data, &internal) != nil {
			return
		}
		decoded, err := decodeLease(&logical.Secret{InternalData: internal})
		if err != nil {
			return
		}
		require.NotEmpty(t, decoded.ReferenceNumber)
		require.Equal(t, leaseVersion, decoded.Version)
	})
}
