// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package leases

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// TTLWarnings state how the mount changes or sets the leases of a role with these values.
func TTLWarnings(system logical.SystemView, ttl, maxTTL time.Duration) []string {
	longest := system.MaxLeaseTTL()
	var warnings []string
	if maxTTL > longest {
		warnings = append(warnings, fmt.Sprintf("max_ttl is longer than the mount's of %s, which holds", shortDuration(longest)))
	}
	switch {
	case ttl > longest:
		warnings = append(warnings, fmt.Sprintf("ttl is longer than the mount's max_lease_ttl of %s, which holds", shortDuration(longest)))
	case ttl == 0:
		warnings = append(warnings, unsetTTL(system, maxTTL))
	}
	return warnings
}

func unsetTTL(system logical.SystemView, maxTTL time.Duration) string {
	ttl, from := system.DefaultLeaseTTL(), "the mount's default lease"
	if longest := system.MaxLeaseTTL(); longest < ttl {
		ttl, from = longest, "the mount's max_lease_ttl"
	}
	if maxTTL > 0 && maxTTL < ttl {
		ttl, from = maxTTL, "max_ttl"
	}
	return fmt.Sprintf("ttl is not set, so that a token lives for %s (%s) unless its lease is revoked before; give a ttl, such as 1h", shortDuration(ttl), from)
}

// shortDuration leaves out minutes and seconds that are zero.
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
