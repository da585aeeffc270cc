// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import "context"

// TokenSource supplies requests with access tokens.
type TokenSource interface {
	// AccessToken returns an access token that is valid now. It is called once the limiter has
	// admitted the request: a wait for KSeF's limits may outlast a token.
	AccessToken(ctx context.Context) (AccessToken, error)
}

// AccessToken is a bearer token. A TokenRenewer gets the refused one back as it has returned it.
type AccessToken interface{ Reveal() string }

// TokenRenewer is a TokenSource that can replace an access token that KSeF has refused.
type TokenRenewer interface {
	TokenSource
	// Renew returns another access token than the refused one; cause is KSeF's refusal: a 401 or,
	// for the address of the request, a 403.
	Renew(ctx context.Context, refused AccessToken, cause error) (AccessToken, error)
	// AddressRefused is called where KSeF also refuses the address of a token that Renew has
	// returned for that reason. It returns the error of the request.
	AddressRefused(token AccessToken, cause error) error
}

// AccessToken returns the secret itself, whether KSeF accepts it or not.
func (s Secret) AccessToken(context.Context) (AccessToken, error) { return s, nil }

// WithTokenSource returns a client whose requests carry access tokens of the source.
func (c *Client) WithTokenSource(source TokenSource) *Client {
	authorized := *c
	authorized.tokens = source
	return &authorized
}

// maxRenewals is how often a 401 is answered by another access token: the first may be a refreshed
// one, refused like the one before; the second comes from a new login.
const maxRenewals = 2

// do makes the call and decodes a success into out; nil stands for no body. Where KSeF refuses the
// access token, a TokenRenewer is asked for another: up to maxRenewals times after a 401, and once
// after a 403 for the address. Each attempt has a permit of its own.
func (c *Client) do(ctx context.Context, call call, out any) error {
	if err := call.encode(); err != nil {
		return err
	}
	if call.bearer == nil {
		_, err := c.send(ctx, &call, nil, out)
		return err
	}
	token, err := c.send(ctx, &call, call.bearer.AccessToken, out)
	renewer, renews := call.bearer.(TokenRenewer)
	if !renews {
		return err
	}
	renew := func() {
		refused, cause := token, err
		token, err = c.send(ctx, &call, func(ctx context.Context) (AccessToken, error) { return renewer.Renew(ctx, refused, cause) }, out)
	}
	for attempt := 0; attempt < maxRenewals && token != nil && IsUnauthorized(err); attempt++ {
		renew()
	}
	if token == nil || !IsAddressRefused(err) {
		return err
	}
	if renew(); token == nil || !IsAddressRefused(err) {
		return err
	}
	return renewer.AddressRefused(token, err)
}

// send makes one attempt. token is the access token that it has sent; nil where it has sent none.
func (c *Client) send(ctx context.Context, call *call, source func(context.Context) (AccessToken, error), out any) (token AccessToken, err error) {
	permit, err := c.limiter.Admit(ctx, call.endpoint)
	if err != nil {
		return nil, err
	}
	request, token, err := c.begin(ctx, permit, call, source)
	if err != nil {
		permit.Cancel()
		return nil, err
	}
	return token, c.exchange(ctx, permit, call, request, out)
}
