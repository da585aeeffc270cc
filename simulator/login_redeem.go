// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// tokensResponse is AuthenticationTokensResponse.
type tokensResponse struct {
	AccessToken  tokenInfo `json:"accessToken"`
	RefreshToken tokenInfo `json:"refreshToken"`
}

// redeem is POST /auth/token/redeem: the tokens of a login that has succeeded can be fetched once.
func (s *Simulator) redeem(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := req.login
	if s.store.Logins[l.Reference] != l { // Reset has forgotten it since it was authenticated
		return req.failed(unknownLogin(l.Reference))
	}
	if status := l.Status().Code; status != 200 {
		return req.failed(noAuthorization("Status uwierzytelniania (%d) nie pozwala na pobranie tokenów.", status))
	}
	if refused := s.accessTokenRefusal(l, req.now); refused != nil {
		return req.failed(refused)
	}
	if !l.Redeemed.IsZero() {
		return req.failed(noAuthorization("Tokeny dla operacji uwierzytelniania %s zostały już pobrane.", l.Reference))
	}
	l.Redeemed = req.now
	return ok(tokensResponse{
		AccessToken:  s.issue(jwt.Access, l, req.now, jwt.AccessLifetime),
		RefreshToken: s.issue(jwt.Refresh, l, req.now, jwt.RefreshLifetime),
	})
}

// refreshResponse is AuthenticationTokenRefreshResponse.
type refreshResponse struct {
	AccessToken tokenInfo `json:"accessToken"`
}

// refresh is POST /auth/token/refresh. An expired refresh token gets 400 with 21304, not 401
// (ksef-api issues 336 and 694).
func (s *Simulator) refresh(req *request) response {
	found, err := s.jwtKey.Parse(req.bearer(), req.now)
	if found.Type != jwt.Refresh {
		return s.refuseBearer(req, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.store.Logins[found.Reference]
	if errors.Is(err, jwt.ErrExpired) || l == nil {
		return req.failed(unknownLogin(found.Reference))
	}
	if status := l.Status().Code; status != 200 {
		// The OpenAPI has "uwierzytelniania" here; the tests of both official clients say
		// otherwise.
		return req.failed(noAuthorization("Status uwierzytelnienia (%d) nie pozwala na odświeżenie tokenu dostępowego.",
			status))
	}
	if refused := s.accessTokenRefusal(l, req.now); refused != nil {
		return req.failed(refused)
	}
	l.Refreshed = req.now
	return ok(refreshResponse{s.issue(jwt.Access, l, req.now, jwt.AccessLifetime)})
}

// accessTokenRefusal is why a login that has succeeded gets no access token any more: the KSeF token that
// it was opened with has ended since, or its subject has died. The caller holds the lock.
func (s *Simulator) accessTokenRefusal(l *store.Login, now time.Time) *apiError {
	t := s.store.Tokens[l.Token]
	switch {
	case t != nil && !t.Revoked.IsZero():
		return noAuthorization("Token KSeF został unieważniony.")
	case t != nil && t.Expired(now):
		return noAuthorization("Upłynął termin ważności tokena KSeF.") // a guess
	case s.store.Subjects.Deceased(l.Identifier):
		return &apiError{Code: 21308, Description: "Próba wykorzystania metod autoryzacyjnych osoby zmarłej."}
	}
	return nil
}

func noAuthorization(format string, arguments ...any) *apiError {
	return &apiError{21301, "Brak autoryzacji.", []string{fmt.Sprintf(format, arguments...)}}
}
