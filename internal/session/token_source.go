// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"

	"vault-plugin-secrets-ksef/client"
)

// TokenSource is a client.TokenRenewer that supplies a taxpayer's requests with the access tokens
// of its session.
type TokenSource struct {
	manager  *Manager
	taxpayer client.ContextIdentifier
}

// TokenSource returns the access tokens of the taxpayer.
func (m *Manager) TokenSource(taxpayer client.ContextIdentifier) *TokenSource {
	return &TokenSource{manager: m, taxpayer: taxpayer}
}

// Ready ensures that there is a session. It sends nothing where one is at hand.
func (t *TokenSource) Ready(ctx context.Context) error {
	_, err := t.manager.usable(ctx, t.taxpayer)
	return err
}

// Subject returns the subject of the session. Other subjects may neither see nor revoke what it has
// made.
func (t *TokenSource) Subject() string { return t.manager.SubjectIn(t.taxpayer) }

// AccessToken implements client.TokenSource.
func (t *TokenSource) AccessToken(ctx context.Context) (client.AccessToken, error) {
	return t.manager.usable(ctx, t.taxpayer)
}

// Renew implements client.TokenRenewer: by a refresh or a login after a 401, by a login after a 403
// for the address.
func (t *TokenSource) Renew(ctx context.Context, refused client.AccessToken, cause error) (client.AccessToken, error) {
	if client.IsAddressRefused(cause) {
		return t.manager.rebind(ctx, t.taxpayer, sessionOf(refused), cause)
	}
	return t.manager.Replace(ctx, t.taxpayer, sessionOf(refused))
}

// AddressRefused implements client.TokenRenewer. It remembers the refusal, so that not every
// request logs in.
func (t *TokenSource) AddressRefused(token client.AccessToken, cause error) error {
	refused := &AddressError{Allowed: t.manager.AllowedIPs, SeenFrom: sessionOf(token).seenFrom, Err: cause}
	return t.manager.entry(t.taxpayer).fail(context.Background(), refused)
}

// sessionOf returns the session that a TokenSource has given to the client as an access token.
func sessionOf(token client.AccessToken) *Session {
	session, _ := token.(*Session)
	return session
}
