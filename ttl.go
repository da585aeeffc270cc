// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// ttlWarnings say what a role's leases come to on this mount. A write that leaves the role as it is
// warns of nothing, so that writing back what was read stays quiet.
func (b *backend) ttlWarnings(current, next *role) []string {
	if current != nil && reflect.DeepEqual(current, next) {
		return nil
	}
	longest := b.System().MaxLeaseTTL()
	var warnings []string
	if next.MaxTTL > longest {
		warnings = append(warnings, fmt.Sprintf("max_ttl is longer than the mount's of %s, which holds", shortDuration(longest)))
	}
	switch {
	case next.TTL > longest:
		warnings = append(warnings, fmt.Sprintf("ttl is longer than the mount's max_lease_ttl of %s, which holds", shortDuration(longest)))
	case next.TTL == 0:
		warnings = append(warnings, b.unsetTTL(next, longest))
	}
	return warnings
}

func (b *backend) unsetTTL(next *role, longest time.Duration) string {
	ttl, from := b.System().DefaultLeaseTTL(), "the mount's default lease"
	if longest < ttl {
		ttl, from = longest, "the mount's max_lease_ttl"
	}
	if next.MaxTTL > 0 && next.MaxTTL < ttl {
		ttl, from = next.MaxTTL, "max_ttl"
	}
	return fmt.Sprintf("ttl is not set, so that a token lives for %s (%s) unless its lease is revoked before; give a ttl, such as 1h", shortDuration(ttl), from)
}

// shortDuration leaves out the minutes and seconds that are zero.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
