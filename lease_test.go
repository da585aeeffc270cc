// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"encoding/json"
	"testing"

	"vault-plugin-secrets-ksef/client"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestALeaseSurvivesVaultsStorage(t *testing.T) {
	held := lease{
		Version: leaseVersion, Nonce: "079c2f146d2dce40490c25", ReferenceNumber: "20251010-EC-1DCE3E3000-12ECB5B36E-45",
		API: client.TestURL, Context: client.ContextIdentifier{Type: client.ContextInternalID, Value: "5265877635-12346"},
		Role: "invoices", TTL: 1 << 62, MaxTTL: 3600,
	}
	encoded, err := json.Marshal(logical.Secret{InternalData: held.internal()})
	require.NoError(t, err)
	var stored logical.Secret
	require.NoError(t, json.Unmarshal(encoded, &stored))
	decoded, err := decodeLease(&logical.Secret{InternalData: held.internal()})
	require.NoError(t, err)
	require.Equal(t, held, *decoded)
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
