// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session_test

import (
	"fmt"
	"testing"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/stretchr/testify/require"
)

func TestBindAlso(t *testing.T) {
	for name, test := range map[string]struct {
		allowed  []string
		seenFrom string
		want     xades.AllowedIPs
	}{
		"none allows all":             {nil, "2001:db8::1", xades.AllowedIPs{}},
		"own address is added":        {[]string{"192.0.2.7"}, "198.51.100.1", xades.AllowedIPs{Addresses: []string{"192.0.2.7", "198.51.100.1"}}},
		"in IPv6's form":              {[]string{"192.0.2.7"}, "::ffff:198.51.100.1", xades.AllowedIPs{Addresses: []string{"192.0.2.7", "198.51.100.1"}}},
		"own address is there":        {[]string{"192.0.2.7"}, "192.0.2.7", xades.AllowedIPs{Addresses: []string{"192.0.2.7"}}},
		"own address is in a mask":    {[]string{"192.0.2.0/24"}, "192.0.2.7", xades.AllowedIPs{Masks: []string{"192.0.2.0/24"}}},
		"ranges and masks keep kinds": {[]string{"192.0.2.1-192.0.2.9", "203.0.113.0/24"}, "198.51.100.1", xades.AllowedIPs{Addresses: []string{"198.51.100.1"}, Ranges: []string{"192.0.2.1-192.0.2.9"}, Masks: []string{"203.0.113.0/24"}}},
	} {
		t.Run(name, func(t *testing.T) {
			bound, err := session.BindAlso(test.allowed, &client.Challenge{ClientIP: test.seenFrom})
			require.NoError(t, err)
			require.Equal(t, test.want, bound)
		})
	}
}

func TestBindAlso_refuses(t *testing.T) {
	addresses := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("192.0.2.%d", i))
		}
		return list
	}
	for name, test := range map[string]struct {
		allowed                 []string
		seenFrom, fault, remedy string
	}{
		"an invalid entry":   {[]string{"192.0.2.7", "2001:db8::1"}, "192.0.2.7", "has at place 2 what is no IPv4 address, range or mask", "at most 9 together"},
		"auto":               {[]string{session.AutoAddress}, "192.0.2.7", "has at place 1", "give IPv4 addresses"},
		"ten entries":        {addresses(10), "192.0.2.7", "has 10 entries; KSeF takes 10, and one is for the address of Vault", "at most 9 together"},
		"IPv6":               {addresses(9), "2001:db8::1", "needs the address of this node beside its own, and KSeF sees this node at 2001:db8::1, to which it binds no session", "over IPv4, or leave it empty"},
		"an unknown address": {addresses(1), "", "needs the address of this node beside its own, and KSeF does not tell the address", "leave it empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := session.BindAlso(test.allowed, &client.Challenge{ClientIP: test.seenFrom})
			var invalid *client.InputError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, session.FieldAllowedIPs, invalid.Field)
			require.Contains(t, invalid.Fault, test.fault)
			require.Contains(t, invalid.Remedy, test.remedy)
		})
	}
	bound, err := session.BindAlso(addresses(9), &client.Challenge{ClientIP: "198.51.100.1"})
	require.NoError(t, err)
	require.Len(t, bound.Addresses, 10)
}

func TestCheckRoleAddresses(t *testing.T) {
	require.NoError(t, session.CheckRoleAddresses(nil))
	require.NoError(t, session.CheckRoleAddresses([]string{"192.0.2.7", "192.0.2.0/24", "192.0.2.1-192.0.2.9"}))
	require.ErrorAs(t, session.CheckRoleAddresses([]string{"192.0.2.9-192.0.2.1"}), new(*client.InputError))
}
