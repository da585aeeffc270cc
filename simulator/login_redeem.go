// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"errors"
	"fmt"
	"time"
)

// tokensResponse is AuthenticationTokensResponse.
type tokensResponse struct {
	AccessToken  tokenInfo `json:"accessToken"`
	RefreshToken tokenInfo `json:"refreshToken"`
}

// redeem is POST /auth/token/redeem: the tokens of a login that has succeeded can be fetched once.
func (s *Simulator) redeem(c *call) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := c.login
	switch status := l.status().Code; {
	case s.store.logins[l.reference] != l: // Reset has forgotten it since it was authenticated
		return c.failed(unknownLogin(l.reference))
	case status != 200:
		return c.failed(noAuthorization("Status uwierzytelniania (%d) nie pozwala na pobranie tokenów.", status))
	case s.tokenEnded(l, c.now) != "":
		return c.failed(noAuthorization("%s", s.tokenEnded(l, c.now)))
	case !l.redeemed.IsZero():
		return c.failed(noAuthorization("Tokeny dla operacji uwierzytelniania %s zostały już pobrane.", l.reference))
	}
	l.redeemed = c.now
	return ok(tokensResponse{
		AccessToken:  s.issue(accessJWT, l, c.now, accessLifetime),
		RefreshToken: s.issue(refreshJWT, l, c.now, refreshLifetime),
	})
}

// refreshResponse is AuthenticationTokenRefreshResponse.
type refreshResponse struct {
	AccessToken tokenInfo `json:"accessToken"`
}

// refresh is POST /auth/token/refresh. An expired refresh token gets 400 with 21304, not 401 (ksef-api issues 336 and 694).
func (s *Simulator) refresh(c *call) reply {
	found, err := s.parse(c.bearer(), c.now)
	if found.Type != refreshJWT {
		return s.refuseBearer(c, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.store.logins[found.Reference]
	if errors.Is(err, errExpiredJWT) || l == nil {
		return c.failed(unknownLogin(found.Reference))
	}
	if status := l.status().Code; status != 200 {
		// The OpenAPI has "uwierzytelniania" here; the tests of both official clients say
		// otherwise.
		return c.failed(noAuthorization("Status uwierzytelnienia (%d) nie pozwala na odświeżenie tokenu dostępowego.", status))
	}
	if ended := s.tokenEnded(l, c.now); ended != "" {
		return c.failed(noAuthorization("%s", ended))
	}
	l.refreshed = c.now
	return ok(refreshResponse{s.issue(accessJWT, l, c.now, accessLifetime)})
}

// tokenEnded says what has become since of the token that a login was opened with; "" when it is as
// it was, and for a login with a signature. The caller holds the lock.
func (s *Simulator) tokenEnded(l *login, now time.Time) string {
	t := s.store.tokens[l.token]
	switch {
	case t == nil:
		return ""
	case !t.revoked.IsZero():
		return "Token KSeF został unieważniony."
	case t.expired(now):
		return "Upłynął termin ważności tokena KSeF." // a guess
	}
	return ""
}

func noAuthorization(format string, arguments ...any) *apiError {
	return &apiError{21301, "Brak autoryzacji.", []string{fmt.Sprintf(format, arguments...)}}
}
