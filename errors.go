// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ksef

import (
	"context"
	"errors"
	"net/http"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/externallogin"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
	"vault-plugin-secrets-ksef/internal/rotation"
	"vault-plugin-secrets-ksef/internal/session"

	"github.com/hashicorp/vault/sdk/logical"
)

// errorResponse turns an error into what Vault's user gets: a 400 for a mistake of his and for what
// KSeF refuses, with KSeF's own code and text; a 409 where KSeF may have made a token that nobody
// received; a 429 where KSeF's limits leave no room; everything else is a fault of ours or of KSeF.
//
// Vault's client repeats 412, 429 and every 5xx but 501 by itself. A request that has cost KSeF's
// limit a POST must not be among them.
func errorResponse(err error) (*logical.Response, error) {
	var exhausted *ratelimit.ExhaustedError
	var refused *client.APIError
	var login *client.LoginError
	var enrollment *client.EnrollmentError
	var rotationFailed *rotation.FailedError
	var loginFailed *externallogin.FailedError
	var outage *ledger.OutageError
	var address *session.AddressError
	switch {
	case isInputError(err):
		return logical.ErrorResponse(err.Error()), nil
	case ledger.IsSpent(err):
		return nil, &statusError{error: err, status: http.StatusConflict}
	case errors.As(err, &exhausted), client.IsRateLimited(err):
		return nil, &statusError{error: err, status: http.StatusTooManyRequests}
	case errors.Is(err, ledger.ErrPaused), errors.Is(err, ledger.ErrUnmounting), errors.Is(err, session.ErrEnded), errors.As(err, &outage):
		return nil, &statusError{error: err, status: http.StatusServiceUnavailable}
	case errors.As(err, &address), errors.As(err, &login), errors.As(err, &enrollment), errors.As(err, &rotationFailed), errors.As(err, &loginFailed):
		return logical.ErrorResponse(err.Error()), nil
	case errors.As(err, &refused) && client.IsRefusal(err) &&
		(refused.Status != http.StatusUnauthorized || refused.Endpoint == client.EndpointGenerateToken):
		return logical.ErrorResponse(err.Error()), nil
	}
	return nil, err
}

// saysNothing says of a failed login that it tells nothing of the credential: KSeF was not asked,
// did not answer, had no room or failed itself.
func saysNothing(err error) bool {
	var exhausted *ratelimit.ExhaustedError
	var lost *client.TransportError
	var login *client.LoginError
	var refused *client.APIError
	switch {
	case errors.As(err, &login):
		return login.Status.Code >= http.StatusInternalServerError
	case errors.As(err, &refused):
		return !client.IsRefusal(err) || client.IsRateLimited(err)
	}
	return errors.As(err, &exhausted) || errors.As(err, &lost) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// isInputError says that an error is the user's mistake.
func isInputError(err error) bool {
	var input *client.InputError
	return errors.As(err, &input)
}

// needsOperator says that an error lasts until somebody mends its cause.
func needsOperator(err error) bool {
	var login *client.LoginError
	var refused *client.APIError
	var address *session.AddressError
	switch {
	case isInputError(err), errors.Is(err, errOtherAPI), ledger.IsUnknownToken(err), errors.As(err, &address):
		return true
	case errors.As(err, &login):
		return login.Status.Code < http.StatusInternalServerError
	case errors.As(err, &refused):
		return client.IsRefusal(err) && !client.IsRateLimited(err) && !client.IsUnauthorized(err) && !client.IsAddressRefused(err)
	}
	return false
}

// statusError gives an error the HTTP status that Vault answers with.
type statusError struct {
	error
	status int
}

// Code implements logical.HTTPCodedError.
func (e *statusError) Code() int { return e.status }

func (e *statusError) Unwrap() error { return e.error }
