// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package ippolicy restricts the IP addresses that may use the access tokens of a login.
package ippolicy

import (
	"net/netip"
	"regexp"
	"strings"
)

// MaxEntries is how many addresses, ranges and masks a policy may have, of each.
const MaxEntries = 10

const (
	octetPattern = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]|[0-9])`
	ip4Pattern   = `(` + octetPattern + `\.){3}` + octetPattern
)

var (
	ip4Address = regexp.MustCompile("^" + ip4Pattern + "$")
	ip4Range   = regexp.MustCompile("^" + ip4Pattern + "-" + ip4Pattern + "$")
	ip4Mask    = regexp.MustCompile("^" + ip4Pattern + "/(0|[1-9]|[12][0-9]|3[0-2])$")
)

// AllowedIPs is AllowedIps of the OpenAPI and of the login document.
type AllowedIPs struct {
	Addresses []string `json:"ip4Addresses"`
	Ranges    []string `json:"ip4Ranges"`
	Masks     []string `json:"ip4Masks"`
}

// Policy reads the list. The error text names the invalid entry.
func (a AllowedIPs) Policy() (Policy, string) {
	for _, list := range [][]string{a.Addresses, a.Ranges, a.Masks} {
		if len(list) > MaxEntries {
			return nil, "Lista adresów IP może mieć najwyżej 10 pozycji."
		}
	}
	var allowed Policy
	for _, text := range a.Addresses {
		if !ip4Address.MatchString(text) {
			return nil, "Nieprawidłowy adres IPv4 " + text + "."
		}
		address := netip.MustParseAddr(text)
		allowed = append(allowed, func(client netip.Addr) bool { return client == address })
	}
	for _, text := range a.Ranges {
		if !ip4Range.MatchString(text) {
			return nil, "Nieprawidłowy zakres adresów IPv4 " + text + "."
		}
		first, last, _ := strings.Cut(text, "-")
		from, to := netip.MustParseAddr(first), netip.MustParseAddr(last)
		allowed = append(allowed,
			func(client netip.Addr) bool { return client.Compare(from) >= 0 && client.Compare(to) <= 0 })
	}
	for _, text := range a.Masks {
		if !ip4Mask.MatchString(text) {
			return nil, "Nieprawidłowa maska adresów IPv4 " + text + "."
		}
		allowed = append(allowed, netip.MustParsePrefix(text).Contains)
	}
	return allowed, ""
}

// Policy restricts the addresses that may use the access tokens of a login. An empty one allows
// all.
type Policy []func(netip.Addr) bool

// Allows reports whether a client's address may use the access tokens.
func (p Policy) Allows(client string) bool {
	if len(p) == 0 {
		return true
	}
	address, err := netip.ParseAddr(client)
	if err != nil {
		return false
	}
	for _, allows := range p {
		if allows(address) {
			return true
		}
	}
	return false
}
