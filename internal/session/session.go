// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"time"

	"vault-plugin-secrets-ksef/client"
)

// Session is a login that has been redeemed.
type Session struct {
	// ReferenceNumber is KSeF's number of the login.
	ReferenceNumber string
	Context         client.ContextIdentifier
	Access          client.Bearer
	Refresh         client.Bearer
	Since           time.Time
	// API identifies the KSeF that has opened it.
	API string
	// Subject is who has signed the login; "" where the signature does not say.
	Subject string
	// External says that the login was signed outside of Vault: Vault cannot repeat it.
	External bool
	// AllowedIPs are the addresses to which an external login is bound, as config had them.
	AllowedIPs []string

	// seenFrom is the address from which KSeF has seen the login begin; "" for unknown.
	seenFrom string
	// isReplacement says that the access token is the replacement of one that KSeF has refused.
	isReplacement bool
	// renewal is the login or refresh that gave the access token; nil for one from storage or from
	// an external login.
	renewal *renewal
	// key is where the session was read from, below the manager's prefix; "" for one that was not.
	key string
}

// IsAlive says that the session can be refreshed. It is false for nil.
func (s *Session) IsAlive() bool { return s != nil && time.Now().Before(s.Refresh.ValidUntil) }

func (s *Session) fresh() bool {
	return s != nil && time.Until(s.Access.ValidUntil) > refreshMargin
}

func (s *Session) withAccess(access client.Bearer) *Session {
	next := *s
	next.Access, next.isReplacement, next.renewal = access, false, &renewal{}
	return &next
}

// renewal tells access tokens apart, since KSeF gives the same text twice within a second (ksef-api
// issue 385).
type renewal struct{ _ byte }

// hasAccessOf says that the access token is the refused one, and not the same text given anew.
func (s *Session) hasAccessOf(refused *Session) bool {
	return s.Access.Token == refused.Access.Token && (s.renewal == nil || s.renewal == refused.renewal)
}

// Reveal returns the access token itself.
func (s *Session) Reveal() string { return s.Access.Token.Reveal() }
