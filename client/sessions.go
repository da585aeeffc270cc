// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Session is AuthenticationListItem: a login of the subject that KSeF keeps. It is decoded without
// authenticationMethod, which KSeF is about to remove.
type Session struct {
	ReferenceNumber string `json:"referenceNumber"`
	// Current says that the access token of the request belongs to it.
	Current bool      `json:"isCurrent"`
	Started time.Time `json:"startDate"`
	Status  Status    `json:"status"`
	// Method is how the subject has logged in; nil where KSeF does not say.
	Method *SessionMethod `json:"authenticationMethodInfo"`
	// Redeemed says that KSeF has given out the refresh token. KSeF may leave it out.
	Redeemed bool `json:"isTokenRedeemed"`
	// LastRefreshed and RefreshValidUntil are by KSeF's clock; nil where KSeF does not say.
	LastRefreshed     *time.Time `json:"lastTokenRefreshDate"`
	RefreshValidUntil *time.Time `json:"refreshTokenValidUntil"`
}

// SessionMethod is AuthenticationMethodInfo.
type SessionMethod struct {
	// Category is XadesSignature, NationalNode, Token or Other; more may come.
	Category    string `json:"category"`
	Code        string `json:"code"`
	DisplayName string `json:"displayName"`
}

// SessionQuery asks for a page of sessions.
type SessionQuery struct {
	// PageSize is 10 to 100; 0 means 10.
	PageSize int
	// Continuation is what the page before gave; "" asks for the first.
	Continuation string
}

// SessionPage is AuthenticationListResponse: a page of the list, newest first.
type SessionPage struct {
	Sessions []Session `json:"items"`
	// Continuation leads to the next page; "" on the last.
	Continuation string `json:"continuationToken"`
}

// QuerySessions returns a page of the sessions that the subject has in the context of the access
// token.
func (c *Client) QuerySessions(ctx context.Context, query SessionQuery) (*SessionPage, error) {
	values := url.Values{}
	setIf(values, "pageSize", query.PageSize)
	return fetch[SessionPage](ctx, c, call{
		endpoint: EndpointQuerySessions, query: values, success: http.StatusOK, bearer: c.tokens, continuation: query.Continuation,
	})
}

// EndSession ends the session that the token, access or refresh, belongs to. Access tokens stay
// valid to their own end, up to 15 minutes.
func (c *Client) EndSession(ctx context.Context, bearer Secret) error {
	return c.do(ctx, call{endpoint: EndpointEndSession, success: http.StatusNoContent, bearer: bearer}, nil)
}

// EndSessionByNumber ends a session of the same subject and context as the access token's.
func (c *Client) EndSessionByNumber(ctx context.Context, referenceNumber string) error {
	return c.do(ctx, call{endpoint: EndpointEndNumbered, parameter: referenceNumber, success: http.StatusNoContent, bearer: c.tokens}, nil)
}
