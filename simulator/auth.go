// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

func (s *Simulator) authEndpoints() []endpoint {
	return []endpoint{
		{name: "POST /auth/challenge", scope: perClient, serve: s.newChallenge},
		{name: "POST /auth/xades-signature", scope: perClient, serve: s.loginBySignature},
		{name: "POST /auth/ksef-token", scope: perClient, serve: s.loginByToken},
		{name: "GET /auth/{referenceNumber}", scope: perClient, bearer: []string{jwt.Operation}, serve: s.loginStatus},
		{name: "POST /auth/token/redeem", scope: perClient, bearer: []string{jwt.Operation}, serve: s.redeem},
		{name: "POST /auth/token/refresh", scope: perClient, serve: s.refresh},
	}
}

func signatureMethod(signedBy subject, issued *store.Certificate) store.AuthenticationMethod {
	if issued != nil {
		return store.AuthenticationMethod{Legacy: "InternalCertificate",
			Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.internal-certificate",
				DisplayName: "Certyfikat KSeF"}}
	}
	if signedBy.identifier.Type == ksef.TypePeppolID {
		return store.AuthenticationMethod{Legacy: "PeppolSignature",
			Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.peppol-signature",
				DisplayName: "Podpis dostawcy usług Peppol"}}
	}
	if signedBy.person {
		return store.AuthenticationMethod{Legacy: "QualifiedSignature",
			Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.qualified-signature",
				DisplayName: "Podpis kwalifikowany"}}
	}
	return store.AuthenticationMethod{Legacy: "QualifiedSeal",
		Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.qualified-seal",
			DisplayName: "Pieczęć kwalifikowana"}}
}

func tokenMethod() store.AuthenticationMethod {
	return store.AuthenticationMethod{Legacy: "Token",
		Info: store.MethodInfo{Category: "Token", Code: "token.ksef", DisplayName: "Token KSeF"}}
}

// initResponse is AuthenticationInitResponse.
type initResponse struct {
	ReferenceNumber     string    `json:"referenceNumber"`
	AuthenticationToken tokenInfo `json:"authenticationToken"`
}

// startLogin records a login that will be decided after the login delay. The caller holds the lock.
func (s *Simulator) startLogin(req *request, l *store.Login) response {
	l.Reference = ksef.NewReference(ksef.LoginKind, req.now)
	l.Started, l.Due = req.now, req.now.Add(s.options.LoginDelay)
	if l.Signed != nil && l.Issued == nil {
		l.Due = l.Due.Add(s.options.QualifiedLoginDelay)
	}
	s.store.AddLogin(l)
	s.store.ScheduleDecision(s.decisionTime(l))
	s.decideLogins(req.now)
	return accepted(initResponse{l.Reference, s.issue(jwt.Operation, l, req.now, jwt.OperationLifetime)})
}

// operationStatus is AuthenticationOperationStatusResponse, and part of AuthenticationListItem.
type operationStatus struct {
	StartDate              timestamp        `json:"startDate"`
	AuthenticationMethod   string           `json:"authenticationMethod,omitempty"`
	MethodInfo             store.MethodInfo `json:"authenticationMethodInfo"`
	Status                 store.StatusInfo `json:"status"`
	IsTokenRedeemed        bool             `json:"isTokenRedeemed"`
	LastTokenRefreshDate   timestamp        `json:"lastTokenRefreshDate"`
	RefreshTokenValidUntil timestamp        `json:"refreshTokenValidUntil"`
}

// operationStatus describes a login. The caller holds the lock.
func (s *Simulator) operationStatus(l *store.Login) operationStatus {
	status := operationStatus{
		StartDate: timestamp(l.Started), AuthenticationMethod: l.Method.Legacy, MethodInfo: l.Method.Info,
		Status: l.Status(), IsTokenRedeemed: !l.Redeemed.IsZero(), LastTokenRefreshDate: timestamp(l.Refreshed),
	}
	if s.options.OmitAuthenticationMethod {
		status.AuthenticationMethod = ""
	}
	if status.IsTokenRedeemed {
		status.RefreshTokenValidUntil = timestamp(l.Redeemed.Add(jwt.RefreshLifetime).Truncate(time.Second))
	}
	return status
}

// loginStatus serves GET /auth/{referenceNumber}. The operation's own token expires after 45
// minutes, so only a fault gives the documented 410 (after 7 days).
func (s *Simulator) loginStatus(req *request) response {
	reference := req.PathValue("referenceNumber")
	if reference != req.login.Reference {
		return req.failed(unknownLogin(reference))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(s.operationStatus(req.login))
}

func unknownLogin(reference string) *apiError {
	return &apiError{21304, "Brak uwierzytelnienia.",
		[]string{"Operacja uwierzytelniania o numerze referencyjnym " + reference + " nie została znaleziona."}}
}

// challengeResponse is AuthenticationChallengeResponse.
type challengeResponse struct {
	Challenge   string    `json:"challenge"`
	Timestamp   timestamp `json:"timestamp"`
	TimestampMs int64     `json:"timestampMs"`
	ClientIP    string    `json:"clientIp"`
}

func (s *Simulator) newChallenge(req *request) response {
	challenge := ksef.NewReference(ksef.ChallengeKind, req.now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store.AddChallenge(challenge, req.now)
	return ok(challengeResponse{challenge, timestamp(req.now), req.now.UnixMilli(), req.clientIP()})
}

func invalidChallenge() *apiError {
	return &apiError{Code: 21111, Description: "Nieprawidłowe wyzwanie autoryzacyjne."}
}

// tokensResponse is AuthenticationTokensResponse.
type tokensResponse struct {
	AccessToken  tokenInfo `json:"accessToken"`
	RefreshToken tokenInfo `json:"refreshToken"`
}

// redeem serves POST /auth/token/redeem: it returns the tokens of a successful login, once.
func (s *Simulator) redeem(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := req.login
	if s.store.Logins[l.Reference] != l { // Reset has removed it since it was authenticated
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
		AccessToken:  s.issue(jwt.Access, l, req.now, s.options.AccessTokenLifetime),
		RefreshToken: s.issue(jwt.Refresh, l, req.now, jwt.RefreshLifetime),
	})
}

// refreshResponse is AuthenticationTokenRefreshResponse.
type refreshResponse struct {
	AccessToken tokenInfo `json:"accessToken"`
}

// refresh serves POST /auth/token/refresh. An expired refresh token gets 400 with 21304, not 401
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
		// The OpenAPI has "uwierzytelniania" here. The tests of both official clients have this
		// word.
		return req.failed(noAuthorization("Status uwierzytelnienia (%d) nie pozwala na odświeżenie tokenu dostępowego.",
			status))
	}
	if refused := s.accessTokenRefusal(l, req.now); refused != nil {
		return req.failed(refused)
	}
	l.Refreshed = req.now
	return ok(refreshResponse{s.issue(jwt.Access, l, req.now, s.options.AccessTokenLifetime)})
}

// accessTokenRefusal returns why a successful login gets no further access token: its KSeF token
// has ended, or its subject is deceased. The caller holds the lock.
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
