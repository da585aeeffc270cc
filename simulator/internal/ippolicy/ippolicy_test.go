// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ippolicy_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-ksef/simulator/internal/ippolicy"
)

func TestAllows(t *testing.T) {
	policy, invalid := ippolicy.AllowedIPs{
		Addresses: []string{"192.0.2.1"},
		Ranges:    []string{"198.51.100.10-198.51.100.20"},
		Masks:     []string{"203.0.113.0/24"},
	}.Policy()
	require.Empty(t, invalid)
	for client, allowed := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false,
		"198.51.100.9": false, "198.51.100.10": true, "198.51.100.20": true, "198.51.100.21": false,
		"203.0.113.255": true, "203.0.114.0": false,
		"2001:db8::1": false, "not an address": false,
	} {
		require.Equal(t, allowed, policy.Allows(client), client)
	}
	require.True(t, ippolicy.Policy(nil).Allows("192.0.2.2"), "an empty policy allows all")
}

func TestPolicyInvalid(t *testing.T) {
	for entry, list := range map[string]ippolicy.AllowedIPs{
		"256.0.0.1":           {Addresses: []string{"192.0.2.1", "256.0.0.1"}},
		"192.0.2.1":           {Ranges: []string{"192.0.2.1"}},
		"192.0.2.0/33":        {Masks: []string{"192.0.2.0/33"}},
		"najwyżej 10 pozycji": {Addresses: slices.Repeat([]string{"192.0.2.1"}, ippolicy.MaxEntries+1)},
	} {
		_, invalid := list.Policy()
		require.Contains(t, invalid, entry)
	}
}
