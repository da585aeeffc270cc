// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"net/http"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
)

// scope is what an error in the reconciler speaks of.
type scope int

const (
	// ofQueue is our login, our limits, our configuration, KSeF's reach: what failed for this task
	// would fail for the next.
	ofQueue scope = iota
	// ofService is a fault of KSeF's, which may be this token's or everybody's.
	ofService
	// ofTask is KSeF's answer about this token, or a panic at it.
	ofTask
)

// scopeOf decides by the endpoint and KSeF's answer. 401, 429 and a 403 for the address concern the
// session; another 403 may concern this token alone, as when another subject made it.
func scopeOf(err error) scope {
	if errors.As(err, new(*taskError)) || errors.As(err, new(*background.PanicError)) {
		return ofTask
	}
	var refused *client.APIError
	if !errors.As(err, &refused) {
		return ofQueue
	}
	switch refused.Endpoint {
	case client.EndpointRevokeToken, client.EndpointToken, client.EndpointQueryTokens:
	default:
		return ofQueue
	}
	switch {
	case client.IsAddressRefused(err), refused.Status == http.StatusUnauthorized, refused.Status == http.StatusTooManyRequests:
		return ofQueue
	case client.IsRefusal(err):
		return ofTask
	}
	return ofService
}

// isUnclear says that KSeF may have acted on a DELETE, whose reply told nothing.
func isUnclear(err error) bool {
	var lost *client.TransportError
	if errors.As(err, &lost) {
		return lost.Sent && lost.Endpoint == client.EndpointRevokeToken
	}
	return scopeOf(err) == ofService
}
