// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The endpoints of a login, as KSeF's documentation names them.
const (
	EndpointChallenge     = "POST /auth/challenge"
	EndpointXAdES         = "POST /auth/xades-signature"
	EndpointKSeFToken     = "POST /auth/ksef-token"
	EndpointLoginStatus   = "GET /auth/{referenceNumber}"
	EndpointRedeem        = "POST /auth/token/redeem"
	EndpointRefresh       = "POST /auth/token/refresh"
	EndpointEndSession    = "DELETE /auth/sessions/current"
	EndpointEndNumbered   = "DELETE /auth/sessions/{referenceNumber}"
	EndpointQuerySessions = "GET /auth/sessions"
	EndpointPublicKeys    = "GET /security/public-key-certificates"
)

// Challenge is what a login signs. It can be used once, within ten minutes.
type Challenge struct {
	Challenge string `json:"challenge"`
	// Timestamp is KSeF's clock when it made the challenge.
	Timestamp   time.Time `json:"timestamp"`
	TimestampMs int64     `json:"timestampMs"`
	// ClientIP is the address from which KSeF sees this client.
	ClientIP string `json:"clientIp"`
}

// Bearer is a JWT with its end.
type Bearer struct {
	Token Secret `json:"token"`
	// ValidUntil is its end, translated to this machine's clock.
	ValidUntil time.Time `json:"validUntil"`
}

// Operation is a login that has been submitted and is being decided.
type Operation struct {
	ReferenceNumber string `json:"referenceNumber"`
	Token           Bearer `json:"authenticationToken"`
}

// Status is where a login or a request for a certificate stands, which KSeF decides later.
type Status struct {
	Code        int      `json:"code"`
	Description string   `json:"description"`
	Details     []string `json:"details"`
}

// String is the code with KSeF's text, in Polish.
func (s Status) String() string {
	text := fmt.Sprintf("%d %s", s.Code, clip(s.Description))
	if len(s.Details) == 0 {
		return text
	}
	return strings.TrimRight(text, " .") + ": " + joinTexts(clipAll(s.Details[:min(len(s.Details), 5)]))
}

// LoginError is a login that KSeF has refused.
type LoginError struct {
	ReferenceNumber string
	Status          Status
}

func (e *LoginError) Error() string {
	text := fmt.Sprintf("KSeF refused the login %s: %s", e.ReferenceNumber, e.Status)
	return appendSentence(text, loginRefusals[e.Status.Code])
}

// detailTokenRevoked is KSeF's remark on a login with a token that has been revoked.
const detailTokenRevoked = "Token unieważniony"

// IsTokenRevoked says of a failed login with a KSeF token that KSeF refuses it since the token has
// been revoked, which is for good.
func IsTokenRevoked(err error) bool {
	refused, ok := errors.AsType[*LoginError](err)
	return ok && refused.Status.Code == LoginTokenRefused && slices.Contains(refused.Status.Details, detailTokenRevoked)
}

// loginRefusals explain why KSeF has refused a login, by its status.
var loginRefusals = map[int]string{
	LoginWithoutPermission: "The subject has no permission in this context: grant it one in KSeF first.",
	statusLoginRevoked:     "The login has been revoked.",
	LoginTokenRefused:      "The KSeF token was not accepted.",
	statusLoginCertificate: "The certificate was not accepted; one that was just issued may need an hour or two.",
	statusLoginDeceased:    deceasedSentence,
	statusLoginBlocked:     "KSeF has blocked this subject after a security incident.",
	statusLoginFailed:      "KSeF could not finish the login; try again.",
	statusLoginInterrupted: "KSeF could not finish the login; try again.",
}

// Tokens are what a login is redeemed for.
type Tokens struct {
	Access  Bearer `json:"accessToken"`
	Refresh Bearer `json:"refreshToken"`
}

// Challenge asks for a challenge.
func (c *Client) Challenge(ctx context.Context) (*Challenge, error) {
	return fetch[Challenge](ctx, c, call{endpoint: EndpointChallenge, success: http.StatusOK})
}

// SubmitXAdES begins a login with a signed AuthTokenRequest. The document is sent byte for byte:
// any change would break its signature.
func (c *Client) SubmitXAdES(ctx context.Context, signed []byte) (*Operation, error) {
	return fetch[Operation](ctx, c, call{
		endpoint: EndpointXAdES, success: http.StatusAccepted, contentType: "application/xml", body: signed,
	})
}

// LoginState is where a login stands that KSeF has not refused.
type LoginState struct {
	// Done says that the login has succeeded and can be redeemed; otherwise KSeF has not decided.
	Done bool
	// Redeemed says that KSeF has given out its tokens. KSeF may leave it out.
	Redeemed bool
}

// LoginStatus asks where a submitted login stands. It fails with a *LoginError where KSeF has
// refused the login.
func (c *Client) LoginStatus(ctx context.Context, operation *Operation) (LoginState, error) {
	var out struct {
		Status   Status `json:"status"`
		Redeemed bool   `json:"isTokenRedeemed"`
	}
	err := c.do(ctx, call{endpoint: EndpointLoginStatus, parameter: operation.ReferenceNumber, success: http.StatusOK, bearer: operation.Token.Token}, &out)
	if err == nil && out.Status.Code != LoginDone && out.Status.Code != statusLoginPending {
		err = &LoginError{ReferenceNumber: operation.ReferenceNumber, Status: out.Status}
	}
	return LoginState{Done: out.Status.Code == LoginDone, Redeemed: out.Redeemed}, err
}

// Redeem exchanges a login that has succeeded for its tokens. KSeF allows it once: where the answer
// is lost, only a new login helps.
func (c *Client) Redeem(ctx context.Context, operation *Operation) (*Tokens, error) {
	return fetch[Tokens](ctx, c, call{endpoint: EndpointRedeem, success: http.StatusOK, bearer: operation.Token.Token})
}

// Refresh gets a new access token. A refresh token that has ended is a 400 with CodeNotRedeemable,
// CodeUnknownLogin or CodeDeceased, not a 401.
func (c *Client) Refresh(ctx context.Context, refresh Secret) (*Bearer, error) {
	out, err := fetch[refreshed](ctx, c, call{endpoint: EndpointRefresh, success: http.StatusOK, bearer: refresh})
	if err != nil {
		return nil, err
	}
	return &out.Access, nil
}
