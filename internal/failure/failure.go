// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Package failure decides what becomes of an error: the status of Vault's response, and who must
// act.
package failure

import (
	"context"
	"errors"
	"net/http"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/breaker"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/session"
	"vault-plugin-secrets-ksef/internal/unleased"

	"github.com/hashicorp/vault/sdk/logical"
)

// ErrOtherAPI is returned for a token or login of another environment.
var ErrOtherAPI = errors.New("the configuration leads to another KSeF environment")

// Response turns an error into a response for Vault's user: 400 for bad input and for what KSeF
// refuses, with KSeF's own code and text; 409 where KSeF may have made a token that was not
// returned; 429 where KSeF's limits leave no room; 503 while the configuration changes, during an
// unmount, while replies to requests for tokens are lost, and where a role has no token before its
// next attempt. Vault answers 500 for any other error, a failure of the engine or of KSeF.
//
// Vault's client repeats 412, 429 and every 5xx but 501 by itself. A request that has cost KSeF's
// limit a POST must not be among them.
func Response(err error) (*logical.Response, error) {
	switch {
	case is[*client.InputError](err):
		return logical.ErrorResponse(err.Error()), nil
	case ledger.IsSpent(err):
		return nil, WithStatus(http.StatusConflict, err)
	case is[*ratelimit.ExhaustedError](err), client.IsRateLimited(err):
		return nil, WithStatus(http.StatusTooManyRequests, err)
	case errors.Is(err, ledger.ErrPaused), errors.Is(err, ledger.ErrUnmounting), errors.Is(err, session.ErrEnded), is[*breaker.OutageError](err):
		return nil, WithStatus(http.StatusServiceUnavailable, err)
	case is[*session.AddressError](err), is[*client.LoginError](err), is[*client.EnrollmentError](err),
		is[*rotation.FailedError](err), is[*externallogin.FailedError](err):
		return logical.ErrorResponse(err.Error()), nil
	}
	refused, _ := errors.AsType[*client.APIError](err)
	if client.IsRefusal(err) && (refused.Status != http.StatusUnauthorized || refused.Endpoint == client.EndpointGenerateToken) {
		return logical.ErrorResponse(err.Error()), nil
	}
	if is[*unleased.WaitError](err) {
		return nil, WithStatus(http.StatusServiceUnavailable, err)
	}
	return nil, err
}

// is reports whether an error is, or wraps, one of type T.
func is[T error](err error) bool {
	_, found := errors.AsType[T](err)
	return found
}

// IsInconclusive reports whether a failed login proves nothing about the credential: KSeF was not
// asked, did not answer, had no room or failed itself.
func IsInconclusive(err error) bool {
	if login, found := errors.AsType[*client.LoginError](err); found {
		return login.Status.Code >= http.StatusInternalServerError
	}
	if is[*client.APIError](err) {
		return !client.IsRefusal(err) || client.IsRateLimited(err)
	}
	return is[*ratelimit.ExhaustedError](err) || is[*client.TransportError](err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// NeedsOperator reports whether an error lasts until an operator removes its cause.
func NeedsOperator(err error) bool {
	switch {
	case is[*client.InputError](err), errors.Is(err, ErrOtherAPI), ledger.IsUnknownToken(err), is[*session.AddressError](err):
		return true
	case is[*client.LoginError](err):
		return !IsInconclusive(err)
	}
	return client.IsFinal(err)
}

// WithStatus gives an error the HTTP status of Vault's response.
func WithStatus(status int, err error) error { return &statusError{error: err, status: status} }

type statusError struct {
	error
	status int
}

// Code implements logical.HTTPCodedError.
func (e *statusError) Code() int { return e.status }

func (e *statusError) Unwrap() error { return e.error }
