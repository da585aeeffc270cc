// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"net/netip"
	"strings"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/client/xades"
)

// FieldAllowedIPs is the field of config that binds logins to addresses. Its value AutoAddress
// stands for the address from which KSeF sees the login begin.
const (
	FieldAllowedIPs = "allowed_ips"
	AutoAddress     = "auto"
)

// AddressError says that a session may not be used from the address at which KSeF sees this node.
type AddressError struct {
	// Allowed are the addresses to which the session is bound, as config has them.
	Allowed []string
	// SeenFrom is where KSeF sees this node; "" where it does not say.
	SeenFrom string
	// External says that the login is an external one.
	External bool
	// Err is KSeF's refusal; nil where no login was made, since KSeF would refuse its requests.
	Err error
}

func (e *AddressError) Error() string {
	seen := e.SeenFrom
	if seen == "" {
		seen = "an address that it does not tell"
	}
	allowed := strings.Join(e.Allowed, ", ")
	if allowed == "" {
		allowed = "all addresses"
	}
	switch {
	case e.Err == nil:
		return FieldAllowedIPs + ": leaves out " + seen + ", from which KSeF sees this node, and allows " + allowed +
			"; add that address to " + FieldAllowedIPs + " of config, or let this node reach KSeF from one that it allows"
	case e.External:
		return "the login that a person has signed is bound to " + allowed + ", and KSeF sees this node at " + seen +
			": let it reach KSeF from one that is allowed, or add that address to " + FieldAllowedIPs + " of config and have login/begin signed again: " + e.Err.Error()
	}
	return "KSeF refuses the address of this node also after a new login: " + FieldAllowedIPs + " of config is " + allowed +
		", and KSeF has seen the login begin at " + seen + ": " + e.Err.Error()
}

func (e *AddressError) Unwrap() error { return e.Err }

// BindTo returns the addresses to which config binds a login with the challenge. It fails with an
// *AddressError where they leave out this node's, and with a *client.InputError where AutoAddress
// cannot stand for an address.
func BindTo(allowed []string, challenge *client.Challenge) (xades.AllowedIPs, error) {
	if len(allowed) == 0 {
		return xades.AllowedIPs{}, nil
	}
	seen, err := netip.ParseAddr(challenge.ClientIP)
	seen = seen.Unmap()
	if allowed[0] == AutoAddress {
		if err != nil || !seen.Is4() {
			return xades.AllowedIPs{}, notIPv4(challenge.ClientIP)
		}
		return xades.AllowedIPs{Addresses: []string{seen.String()}}, nil
	}
	bound, invalid := xades.ParseAllowedIPs(allowed)
	switch {
	case invalid != nil:
		return xades.AllowedIPs{}, &client.InputError{Field: FieldAllowedIPs, Fault: invalid.Error(), Remedy: "write it anew"}
	case err == nil && !bound.Contains(seen):
		return xades.AllowedIPs{}, &AddressError{Allowed: allowed, SeenFrom: seen.String()}
	}
	return bound, nil
}

func notIPv4(seenFrom string) error {
	fault := "is " + AutoAddress + ", and KSeF does not tell the address from which it sees this node"
	remedy := "give the IPv4 addresses, ranges or masks from which this node reaches KSeF, or leave it empty"
	if _, err := netip.ParseAddr(seenFrom); err == nil {
		fault = "is " + AutoAddress + ", and KSeF sees this node at " + seenFrom + ", to which it binds no session: it knows IPv4 addresses only"
		remedy = "let this node reach KSeF over IPv4, or leave it empty"
	}
	return &client.InputError{Field: FieldAllowedIPs, Fault: fault, Remedy: remedy}
}

// addressError returns the error for an external login. It asks KSeF from where it sees this node.
func (m *Manager) addressError(ctx context.Context, session *Session, cause error) error {
	refused := &AddressError{Allowed: session.AllowedIPs, External: true, Err: cause}
	if challenge, err := m.auth.Challenge(ctx); err == nil {
		refused.SeenFrom = challenge.ClientIP
	}
	return refused
}
