// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/framework"
)

const fieldAllowedIPs = session.FieldAllowedIPs

func allowedIPsField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeCommaStringSlice,
		Description: "IPv4 addresses from which KSeF accepts the engine's sessions: addresses (192.0.2.7), ranges (192.0.2.7-192.0.2.20) and masks (192.0.2.0/24), " +
			"at most 10 of each; or auto, the address from which KSeF sees each login begin. Default: all addresses. " +
			"It binds sessions, not the tokens that are made under them. A change ends the sessions before.",
	}
}

const allowedIPsRemedy = "give IPv4 addresses such as 192.0.2.7, ranges such as 192.0.2.7-192.0.2.20 and masks such as 192.0.2.0/24, at most 10 of each, or auto alone"

// applyAllowedIPs keeps the entries in the order given. An empty list unsets the field.
func applyAllowedIPs(next *config, data *framework.FieldData) error {
	if raw, given := data.GetOk(fieldAllowedIPs); given {
		next.AllowedIPs = nil
		for _, entry := range raw.([]string) {
			next.AllowedIPs = append(next.AllowedIPs, strings.TrimSpace(entry))
		}
	}
	if !next.bindsToPresentAddress() {
		if _, err := xades.ParseAllowedIPs(next.AllowedIPs); err != nil {
			return &client.InputError{Field: fieldAllowedIPs, Fault: err.Error(), Remedy: allowedIPsRemedy}
		}
		return nil
	}
	if len(next.AllowedIPs) > 1 {
		return &client.InputError{Field: fieldAllowedIPs, Fault: "has auto beside other entries", Remedy: allowedIPsRemedy}
	}
	if next.signing() == signingExternal {
		return &client.InputError{
			Field: fieldAllowedIPs, Fault: "is auto, and config has no certificate: only the engine can log in anew when its address changes",
			Remedy: "give the IPv4 addresses, ranges or masks from which Vault reaches KSeF, or a certificate in the same write",
		}
	}
	return nil
}

// bindsToPresentAddress says that each login is bound to the address that it begins from.
func (c *config) bindsToPresentAddress() bool {
	return slices.Contains(c.AllowedIPs, session.AutoAddress)
}

// allowedIPsFingerprint is the field's part of the fingerprint: "" where it is empty, so that
// sessions of a version without the field are used.
func (c *config) allowedIPsFingerprint() string {
	if len(c.AllowedIPs) == 0 {
		return ""
	}
	return "\n" + fieldAllowedIPs + " " + strings.Join(addressSet(c.AllowedIPs), ",")
}

// addressSet returns the entries sorted and without duplicates.
func addressSet(entries []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(entries)))
}

// proveAddress asks KSeF from which address it sees this node, and fails where the field does not
// allow that. A refresh does not show it, and an external login may only follow.
func (c *connection) proveAddress(ctx context.Context) error {
	if len(c.config.AllowedIPs) == 0 {
		return nil
	}
	challenge, err := c.sessions.Auth().Challenge(ctx)
	if err != nil {
		return fmt.Errorf("asking KSeF for the address from which it sees this node: %w", err)
	}
	_, err = session.BindTo(c.config.AllowedIPs, challenge)
	return err
}

// checkExternalLogin refuses an external login for an address that may change.
func (c *config) checkExternalLogin() error {
	if !c.bindsToPresentAddress() {
		return nil
	}
	return &client.InputError{
		Field: fieldAllowedIPs, Fault: "is auto in config, and a login that a person signs cannot be repeated when the address of this node changes",
		Remedy: "write the IPv4 addresses, ranges or masks from which Vault reaches KSeF to config, or leave it empty",
	}
}

// boundBeforeWarning warns of an external login in the default context that was signed for other
// addresses than config has now: it stays bound to them. "" where there is none.
func (c *connection) boundBeforeWarning(ctx context.Context) (string, error) {
	known, err := c.sessions.Known(ctx, c.config.Context)
	if err != nil || known == nil || !known.External || slices.Equal(addressSet(known.AllowedIPs), addressSet(c.config.AllowedIPs)) {
		return "", err
	}
	return "The external login stays bound to the addresses that it was signed for (" + describeAllowedIPs(known.AllowedIPs) +
		") until it ends: have login/begin signed again for those of " + fieldAllowedIPs + " (" + describeAllowedIPs(c.config.AllowedIPs) + ").", nil
}

func describeAllowedIPs(entries []string) string { return cmp.Or(strings.Join(entries, ", "), "all") }
