// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package session

import (
	"context"
	"crypto/x509"

	"vault-plugin-secrets-ksef/client"
)

// API is KSeF in one context, under that context's session. Each call whose access token KSeF
// refuses is tried once more with a new one.
type API struct {
	manager *Manager
	client  *client.Client
	context client.ContextIdentifier
}

// In returns the API in a context; its requests pass the gate.
func (m *Manager) In(taxpayer client.ContextIdentifier, limiter client.Limiter) *API {
	return &API{manager: m, client: m.Client.WithLimiter(limiter), context: taxpayer}
}

// Ready makes sure that there is a session, without asking KSeF where one is at hand.
func (a *API) Ready(ctx context.Context) error {
	_, err := a.manager.Access(ctx, a.context)
	return err
}

// GenerateToken is client.Client.GenerateToken under the session.
func (a *API) GenerateToken(ctx context.Context, request client.TokenRequest) (*client.NewToken, error) {
	return with(a, func(access client.TokenSource) (*client.NewToken, error) {
		return a.client.GenerateToken(ctx, access, request)
	})
}

// QueryTokens is client.Client.QueryTokens under the session.
func (a *API) QueryTokens(ctx context.Context, query client.TokenQuery) (*client.TokenPage, error) {
	return with(a, func(access client.TokenSource) (*client.TokenPage, error) {
		return a.client.QueryTokens(ctx, access, query)
	})
}

// Token is client.Client.Token under the session.
func (a *API) Token(ctx context.Context, referenceNumber string) (*client.Token, error) {
	return with(a, func(access client.TokenSource) (*client.Token, error) {
		return a.client.Token(ctx, access, referenceNumber)
	})
}

// RevokeToken is client.Client.RevokeToken under the session.
func (a *API) RevokeToken(ctx context.Context, referenceNumber string) error {
	_, err := with(a, func(access client.TokenSource) (struct{}, error) {
		return struct{}{}, a.client.RevokeToken(ctx, access, referenceNumber)
	})
	return err
}

// Subject identifies who logs in: what another may not see or revoke.
func (a *API) Subject() string { return a.manager.SubjectIn(a.context) }

// CertificateLimits is client.Client.CertificateLimits under the session.
func (a *API) CertificateLimits(ctx context.Context) (*client.CertificateLimits, error) {
	return with(a, func(access client.TokenSource) (*client.CertificateLimits, error) {
		return a.client.CertificateLimits(ctx, access)
	})
}

// EnrollmentData is client.Client.EnrollmentData under the session.
func (a *API) EnrollmentData(ctx context.Context) (*client.EnrollmentData, error) {
	return with(a, func(access client.TokenSource) (*client.EnrollmentData, error) {
		return a.client.EnrollmentData(ctx, access)
	})
}

// Enroll is client.Client.Enroll under the session.
func (a *API) Enroll(ctx context.Context, request client.EnrollmentRequest) (referenceNumber string, err error) {
	return with(a, func(access client.TokenSource) (string, error) {
		return a.client.Enroll(ctx, access, request)
	})
}

// Enrollment is client.Client.Enrollment under the session.
func (a *API) Enrollment(ctx context.Context, referenceNumber string) (*client.Enrollment, error) {
	return with(a, func(access client.TokenSource) (*client.Enrollment, error) {
		return a.client.Enrollment(ctx, access, referenceNumber)
	})
}

// RetrieveCertificate is client.Client.RetrieveCertificate under the session.
func (a *API) RetrieveCertificate(ctx context.Context, serialNumber string) (*x509.Certificate, error) {
	return with(a, func(access client.TokenSource) (*x509.Certificate, error) {
		return a.client.RetrieveCertificate(ctx, access, serialNumber)
	})
}

// QueryCertificates is client.Client.QueryCertificates under the session.
func (a *API) QueryCertificates(ctx context.Context, query client.CertificateQuery) (*client.CertificatePage, error) {
	return with(a, func(access client.TokenSource) (*client.CertificatePage, error) {
		return a.client.QueryCertificates(ctx, access, query)
	})
}

// RevokeCertificate is client.Client.RevokeCertificate under the session.
func (a *API) RevokeCertificate(ctx context.Context, serialNumber, reason string) error {
	_, err := with(a, func(access client.TokenSource) (struct{}, error) {
		return struct{}{}, a.client.RevokeCertificate(ctx, access, serialNumber, reason)
	})
	return err
}

// with calls KSeF with an access token that is fetched when the request's turn has come. A 401 is
// answered by a refresh, a second one by a login; a 403 for the address by a login, once.
func with[T any](a *API, call func(client.TokenSource) (T, error)) (T, error) {
	var used *Session
	source := func(next func(context.Context) (*Session, error)) client.TokenSource {
		return func(ctx context.Context) (client.Secret, error) {
			session, err := next(ctx)
			if err != nil {
				return "", err
			}
			used = session
			return session.Access.Token, nil
		}
	}
	out, err := call(source(func(ctx context.Context) (*Session, error) { return a.manager.usable(ctx, a.context) }))
	for range 2 {
		if !client.IsUnauthorized(err) || used == nil {
			break
		}
		out, err = call(source(func(ctx context.Context) (*Session, error) { return a.manager.Replace(ctx, a.context, used) }))
	}
	if !client.IsAddressRefused(err) || used == nil {
		return out, err
	}
	refused, cause := used, err
	out, err = call(source(func(ctx context.Context) (*Session, error) { return a.manager.rebind(ctx, a.context, refused, cause) }))
	return out, a.manager.noteAddressRefused(a.context, used, err)
}
