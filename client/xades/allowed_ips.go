// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package xades

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxAllowedIPs is the schema's maximum of addresses, of ranges and of masks.
const maxAllowedIPs = 10

// AllowedIPs are the IPv4 addresses from which KSeF accepts the access tokens of a login. The zero
// value allows all. ParseAllowedIPs accepts only texts that need no escaping in XML.
type AllowedIPs struct {
	// Addresses are single addresses, such as 192.0.2.7.
	Addresses []string
	// Ranges have a first and a last address, such as 192.0.2.7-192.0.2.20.
	Ranges []string
	// Masks have a length, such as 192.0.2.0/24.
	Masks []string
}

// ParseAllowedIPs sorts entries into addresses, ranges and masks. An error names the position of an
// invalid entry, counted from 1, or the kind of which there are too many.
func ParseAllowedIPs(entries []string) (AllowedIPs, error) {
	var allowed AllowedIPs
	for i, entry := range entries {
		if !allowed.add(entry) {
			return AllowedIPs{}, fmt.Errorf("has at place %d what is no IPv4 address, range or mask", i+1)
		}
	}
	for _, kind := range []struct {
		name    string
		entries []string
	}{{"addresses", allowed.Addresses}, {"ranges", allowed.Ranges}, {"masks", allowed.Masks}} {
		if len(kind.entries) > maxAllowedIPs {
			return AllowedIPs{}, fmt.Errorf("has %d %s, and KSeF takes at most %d", len(kind.entries), kind.name, maxAllowedIPs)
		}
	}
	return allowed, nil
}

// add returns false for an entry that is no address, range or mask.
func (a *AllowedIPs) add(entry string) bool {
	if _, _, isRange := parseRange(entry); isRange {
		a.Ranges = append(a.Ranges, entry)
		return true
	}
	if prefix, err := netip.ParsePrefix(entry); err == nil && prefix.Addr().Is4() {
		a.Masks = append(a.Masks, entry)
		return true
	}
	if address, err := netip.ParseAddr(entry); err == nil && address.Is4() {
		a.Addresses = append(a.Addresses, entry)
		return true
	}
	return false
}

func parseRange(entry string) (first, last netip.Addr, ok bool) {
	from, to, found := strings.Cut(entry, "-")
	if !found {
		return first, last, false
	}
	first, err := netip.ParseAddr(from)
	if err != nil || !first.Is4() {
		return first, last, false
	}
	last, err = netip.ParseAddr(to)
	return first, last, err == nil && last.Is4() && first.Compare(last) <= 0
}

// IsZero reports whether all addresses are allowed.
func (a AllowedIPs) IsZero() bool { return len(a.Addresses)+len(a.Ranges)+len(a.Masks) == 0 }

// Equal reports whether both have the same entries, kind by kind in the same order.
func (a AllowedIPs) Equal(other AllowedIPs) bool {
	return slices.Equal(a.Addresses, other.Addresses) && slices.Equal(a.Ranges, other.Ranges) && slices.Equal(a.Masks, other.Masks)
}

// Contains reports whether an address is allowed.
func (a AllowedIPs) Contains(address netip.Addr) bool {
	return a.IsZero() || slices.Contains(a.Addresses, address.String()) ||
		slices.ContainsFunc(a.Ranges, func(entry string) bool {
			first, last, ok := parseRange(entry)
			return ok && address.Is4() && first.Compare(address) <= 0 && address.Compare(last) <= 0
		}) ||
		slices.ContainsFunc(a.Masks, func(entry string) bool {
			prefix, err := netip.ParsePrefix(entry)
			return err == nil && prefix.Contains(address)
		})
}

// element returns the AuthorizationPolicy of the request, or an empty text if all addresses are
// allowed.
func (a AllowedIPs) element() string {
	if a.IsZero() {
		return ""
	}
	var entries strings.Builder
	for _, kind := range []struct {
		element string
		entries []string
	}{{"Ip4Address", a.Addresses}, {"Ip4Range", a.Ranges}, {"Ip4Mask", a.Masks}} {
		for _, entry := range kind.entries {
			entries.WriteString("<" + kind.element + ">" + entry + "</" + kind.element + ">")
		}
	}
	return "<AuthorizationPolicy><AllowedIps>" + entries.String() + "</AllowedIps></AuthorizationPolicy>"
}

// validate returns an error for entries that did not come from ParseAllowedIPs.
func (a AllowedIPs) validate() error {
	parsed, err := ParseAllowedIPs(slices.Concat(a.Addresses, a.Ranges, a.Masks))
	if err == nil && !parsed.Equal(a) {
		err = errors.New("has an entry of another kind than its list")
	}
	if err != nil {
		return fmt.Errorf("the list of allowed addresses %w", err)
	}
	return nil
}
