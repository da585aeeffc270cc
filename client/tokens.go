// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// The endpoints of KSeF tokens, as KSeF's documentation names them. Each has limits of its own in
// each context.
const (
	EndpointGenerateToken = "POST /tokens"
	EndpointQueryTokens   = "GET /tokens"
	EndpointToken         = "GET /tokens/{referenceNumber}"
	EndpointRevokeToken   = "DELETE /tokens/{referenceNumber}"
)

// Limits of a token's description, in characters (OpenAPI, GenerateTokenRequest).
const (
	MinDescription = 5
	MaxDescription = 256
)

// Limits of a page of tokens (OpenAPI, GET /tokens).
const (
	MinPageSize     = 10
	MaxPageSize     = 100
	DefaultPageSize = 10
)

// Permissions returns the permissions that a KSeF token can carry (OpenAPI 2.7.0,
// TokenPermissionType).
func Permissions() []string {
	return []string{
		"InvoiceRead", "InvoiceWrite", "CredentialsRead", "CredentialsManage", "SubunitManage",
		"EnforcementOperations", "Introspection", "CollectiveIdentifierManage",
	}
}

// TokenStatus is where a token stands in its life. Values that are not listed here may come one day
// and are passed on.
type TokenStatus string

// The statuses that KSeF documents.
const (
	StatusPending  TokenStatus = "Pending"
	StatusActive   TokenStatus = "Active"
	StatusRevoking TokenStatus = "Revoking"
	StatusRevoked  TokenStatus = "Revoked"
	StatusFailed   TokenStatus = "Failed"
)

// TokenStatuses returns the statuses that KSeF documents.
func TokenStatuses() []string {
	return []string{
		string(StatusPending), string(StatusActive), string(StatusRevoking), string(StatusRevoked), string(StatusFailed),
	}
}

// Dead says that the token can no longer log in and never will again. That holds in Revoking
// already (OpenAPI, AuthenticationTokenStatus).
func (s TokenStatus) Dead() bool {
	return s == StatusRevoking || s == StatusRevoked || s == StatusFailed
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Permissions []string `json:"permissions"`
	Description string   `json:"description"`
}

// NewToken is the answer to a TokenRequest. KSeF shows the token this once.
type NewToken struct {
	ReferenceNumber string `json:"referenceNumber"`
	Token           Secret `json:"token"`
	// ValidUntil is when the token ends by itself, by this machine's clock; zero where KSeF does
	// not say.
	ValidUntil time.Time `json:"-"`
	ends
}

// Identifier is the subject that made a token, or the taxpayer whose it is.
type Identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Token is KSeF's description of a token.
type Token struct {
	ReferenceNumber string      `json:"referenceNumber"`
	Author          Identifier  `json:"authorIdentifier"`
	Context         Identifier  `json:"contextIdentifier"`
	Description     string      `json:"description"`
	Permissions     []string    `json:"requestedPermissions"`
	Created         time.Time   `json:"dateCreated"`
	LastUsed        *time.Time  `json:"lastUseDate"`
	Status          TokenStatus `json:"status"`
	StatusDetails   []string    `json:"statusDetails"`
	// ValidUntil is as in NewToken.
	ValidUntil time.Time `json:"-"`
	ends
}

// TokenQuery filters KSeF's list of tokens. Zero values do not filter.
type TokenQuery struct {
	Statuses []string
	// Description matches any part, in any case; at least 3 characters.
	Description string
	// Author is an identifier of at least 3 characters, AuthorType its kind: Nip, Pesel or
	// Fingerprint.
	Author     string
	AuthorType string
	// PageSize is 10 to 100; 0 means 10.
	PageSize int
	// Continuation is what the page before gave; "" asks for the first.
	Continuation string
}

// TokenPage is a page of the list, newest first.
type TokenPage struct {
	Tokens []Token `json:"tokens"`
	// Continuation leads to the next page; "" on the last.
	Continuation string `json:"continuationToken"`
}

// GenerateToken makes a token. It is Pending at first and cannot log in before it is Active.
func (c *Client) GenerateToken(ctx context.Context, request TokenRequest) (*NewToken, error) {
	out, err := fetch[NewToken](ctx, c, call{endpoint: EndpointGenerateToken, success: http.StatusAccepted, bearer: c.tokens, json: request})
	if err != nil {
		return nil, err
	}
	if out.ReferenceNumber == "" || out.Token == "" {
		return nil, unreadable(EndpointGenerateToken)
	}
	return out, nil
}

// QueryTokens returns a page of the context's tokens, foreign ones included, as far as the caller
// may see them.
func (c *Client) QueryTokens(ctx context.Context, query TokenQuery) (*TokenPage, error) {
	values := url.Values{"status": query.Statuses}
	setIf(values, "description", query.Description)
	setIf(values, "authorIdentifier", query.Author)
	setIf(values, "authorIdentifierType", query.AuthorType)
	setIf(values, "pageSize", query.PageSize)
	return fetch[TokenPage](ctx, c, call{
		endpoint: EndpointQueryTokens, query: values, success: http.StatusOK, bearer: c.tokens, continuation: query.Continuation,
	})
}

// Token returns KSeF's description of one token.
func (c *Client) Token(ctx context.Context, referenceNumber string) (*Token, error) {
	out, err := fetch[Token](ctx, c, call{endpoint: EndpointToken, parameter: referenceNumber, success: http.StatusOK, bearer: c.tokens})
	if err != nil {
		return nil, err
	}
	if out.ReferenceNumber != referenceNumber || out.Status == "" {
		return nil, unreadable(EndpointToken)
	}
	return out, nil
}

// RevokeToken asks KSeF to revoke a token; nil means that KSeF has accepted (204). KSeF has no 404:
// see TokenStatus.Dead for what else proves an end.
func (c *Client) RevokeToken(ctx context.Context, referenceNumber string) error {
	return c.do(ctx, call{endpoint: EndpointRevokeToken, parameter: referenceNumber, success: http.StatusNoContent, bearer: c.tokens}, nil)
}

// referencePattern is what KSeF's reference numbers look like: a date, a kind and groups, 36
// characters together (OpenAPI, ReferenceNumber, and its examples).
var referencePattern = regexp.MustCompile(`^[0-9]{8}-[A-Z]{2}-[0-9A-Z-]{24}$`)

// ParseReferenceNumber checks a reference number.
func ParseReferenceNumber(value string) (string, error) {
	if !referencePattern.MatchString(value) {
		return "", &InputError{
			Field: "reference_number", Fault: "is not a KSeF reference number",
			Remedy: "give 36 characters in KSeF's own writing, such as 20251010-EC-1A2B3C4D5E-6F7A8B9C0D-1E",
		}
	}
	return value, nil
}
