// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"fmt"
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
			return xades.AllowedIPs{}, notIPv4("is "+AutoAddress, "give the IPv4 addresses, ranges or masks from which this node reaches KSeF, or leave it empty", challenge)
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

// MaxRoleAddresses is how many entries allowed_ips of a role may have: KSeF takes ten, and one is
// for the address of the engine.
const MaxRoleAddresses = 9

// CheckRoleAddresses returns a *client.InputError where allowed cannot be allowed_ips of a role: it
// has an entry that is no IPv4 address, range or mask, or more than MaxRoleAddresses.
func CheckRoleAddresses(allowed []string) error {
	_, err := parseRoleAddresses(allowed)
	return err
}

func parseRoleAddresses(allowed []string) (xades.AllowedIPs, error) {
	invalid := &client.InputError{
		Field:  FieldAllowedIPs,
		Remedy: fmt.Sprintf("give IPv4 addresses such as 192.0.2.7, ranges such as 192.0.2.7-192.0.2.20 and masks such as 192.0.2.0/24, at most %d together, or leave it empty", MaxRoleAddresses),
	}
	if len(allowed) > MaxRoleAddresses {
		invalid.Fault = fmt.Sprintf("has %d entries; KSeF takes %d, and one is for the address of Vault", len(allowed), MaxRoleAddresses+1)
		return xades.AllowedIPs{}, invalid
	}
	bound, err := xades.ParseAllowedIPs(allowed)
	if err != nil {
		invalid.Fault = err.Error()
		return xades.AllowedIPs{}, invalid
	}
	return bound, nil
}

// BindAlso returns the addresses to which a role binds a login with the challenge: its own, and the
// one from which KSeF sees this node. A role without any allows all. It fails with a
// *client.InputError as CheckRoleAddresses does, and where KSeF sees no IPv4 address of this node.
func BindAlso(allowed []string, challenge *client.Challenge) (xades.AllowedIPs, error) {
	bound, err := parseRoleAddresses(allowed)
	if err != nil || bound.IsZero() {
		return xades.AllowedIPs{}, err
	}
	seen, err := netip.ParseAddr(challenge.ClientIP)
	seen = seen.Unmap()
	switch {
	case err != nil || !seen.Is4():
		return xades.AllowedIPs{}, notIPv4("needs the address of this node beside its own", "leave it empty", challenge)
	case !bound.Contains(seen):
		bound.Addresses = append(bound.Addresses, seen.String())
	}
	return bound, nil
}

// notIPv4 returns the error where KSeF can bind no session to the address of this node. cause says
// why it should be bound; unknownRemedy helps where KSeF does not tell the address.
func notIPv4(cause, unknownRemedy string, challenge *client.Challenge) error {
	fault, remedy := cause+", and KSeF does not tell the address from which it sees this node", unknownRemedy
	if _, err := netip.ParseAddr(challenge.ClientIP); err == nil {
		fault = cause + ", and KSeF sees this node at " + challenge.ClientIP + ", to which it binds no session: it knows IPv4 addresses only"
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
