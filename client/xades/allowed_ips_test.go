// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllowedIPs(t *testing.T) {
	t.Run("stand_last_in_the_request", func(t *testing.T) {
		request := sampleRequest()
		var err error
		request.AllowedIPs, err = ParseAllowedIPs([]string{"192.0.2.0/24", "198.51.100.7", "203.0.113.1-203.0.113.9", "198.51.100.8"})
		require.NoError(t, err)
		document, err := request.Document()
		require.NoError(t, err)
		require.Contains(t, string(document), "</SubjectIdentifierType><AuthorizationPolicy><AllowedIps>"+
			"<Ip4Address>198.51.100.7</Ip4Address><Ip4Address>198.51.100.8</Ip4Address>"+
			"<Ip4Range>203.0.113.1-203.0.113.9</Ip4Range><Ip4Mask>192.0.2.0/24</Ip4Mask>"+
			"</AllowedIps></AuthorizationPolicy></AuthTokenRequest>")
	})
	t.Run("contain", func(t *testing.T) {
		allowed, err := ParseAllowedIPs([]string{"192.0.2.7/24", "198.51.100.7", "203.0.113.1-203.0.113.9"})
		require.NoError(t, err)
		for address, want := range map[string]bool{
			"192.0.2.0": true, "192.0.2.255": true, "192.0.3.0": false,
			"198.51.100.7": true, "198.51.100.8": false,
			"203.0.113.0": false, "203.0.113.1": true, "203.0.113.9": true, "203.0.113.10": false,
			"2001:db8::1": false,
		} {
			require.Equal(t, want, allowed.Contains(netip.MustParseAddr(address)), address)
		}
		require.True(t, AllowedIPs{}.Contains(netip.MustParseAddr("2001:db8::1")))
	})
	t.Run("are_refused", func(t *testing.T) {
		for _, entry := range []string{
			"", "auto", "192.0.2", "192.0.2.256", "192.0.2.07", " 192.0.2.7", "192.0.2.7\n", "2001:db8::1", "::ffff:192.0.2.7", "2001:db8::/32",
			"192.0.2.0/33", "192.0.2.0/", "192.0.2.0/08", "/24", "192.0.2.9-192.0.2.1", "192.0.2.1-", "192.0.2.1-192.0.2.0/24", "192.0.2.1 - 192.0.2.9", "<x>",
		} {
			_, err := ParseAllowedIPs([]string{"192.0.2.7", entry})
			require.ErrorContains(t, err, "has at place 2 what is no IPv4 address, range or mask", entry)
		}
	})
	t.Run("are_ten_of_a_kind_at_most", func(t *testing.T) {
		for kind, format := range map[string]string{"addresses": "192.0.2.%d", "ranges": "192.0.2.%d-192.0.2.99", "masks": "192.0.%d.0/24"} {
			entries := []string{"198.51.100.1", "198.51.100.1-198.51.100.2", "198.51.100.0/24"}
			for i := range 9 {
				entries = append(entries, fmt.Sprintf(format, i))
			}
			_, err := ParseAllowedIPs(entries)
			require.NoError(t, err)
			_, err = ParseAllowedIPs(append(entries, fmt.Sprintf(format, 9)))
			require.ErrorContains(t, err, "has 11 "+kind+", and KSeF takes at most 10")
		}
	})
	t.Run("of_another_kind_are_no_request", func(t *testing.T) {
		request := sampleRequest()
		request.AllowedIPs = AllowedIPs{Masks: []string{"192.0.2.7"}}
		_, err := request.Document()
		require.ErrorContains(t, err, "another kind")
		request.AllowedIPs = AllowedIPs{Addresses: []string{"<x>"}}
		_, err = request.Document()
		require.ErrorContains(t, err, "place 1")
	})
}

// TestAllowedIPsAgainstTheSchema uses schema 2.1: the patterns of 2.0 for addresses are no
// expressions of XML Schema.
func TestAllowedIPsAgainstTheSchema(t *testing.T) {
	contracts := os.Getenv("KSEF_CONTRACTS")
	if os.Getenv("CI") != "" {
		require.NotEmpty(t, contracts, "KSEF_CONTRACTS names the directory of the schema")
	}
	if !available(t, "xmllint") || contracts == "" {
		return
	}
	request := sampleRequest()
	var err error
	request.AllowedIPs, err = ParseAllowedIPs([]string{"192.0.2.0/24", "0.0.0.0/0", "255.255.255.255", "203.0.113.1-203.0.113.9"})
	require.NoError(t, err)
	document, err := request.Document()
	require.NoError(t, err)
	text := strings.Replace(string(document), "auth/token/2.0", "auth/token/2.1", 1)
	validate := func(text string) (string, error) {
		return run(t, "xmllint", "--noout", "--schema", filepath.Join(contracts, "schemat_auth_v2-1.xsd"), write(t, "document.xml", []byte(text)))
	}
	output, err := validate(text)
	require.NoError(t, err, output)
	output, err = validate(strings.Replace(text, "255.255.255.255", "255.255.255.256", 1))
	require.Error(t, err)
	require.Contains(t, output, "Ip4Address")
}
