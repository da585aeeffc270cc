// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"
)

// authenticationMethod is how a login was made, in the older form (AuthenticationMethod) and the
// newer one.
type authenticationMethod struct {
	legacy string
	info   methodInfo
}

// methodInfo is AuthenticationMethodInfo.
type methodInfo struct {
	Category    string `json:"category"`
	Code        string `json:"code"`
	DisplayName string `json:"displayName"`
}

func signatureMethod(who subject, issued *ksefCertificate) authenticationMethod {
	if issued != nil {
		return authenticationMethod{"InternalCertificate",
			methodInfo{"XadesSignature", "xades.internal-certificate", "Certyfikat KSeF"}}
	}
	if who.identifier.Type == TypePeppolID {
		return authenticationMethod{"PeppolSignature",
			methodInfo{"XadesSignature", "xades.peppol-signature", "Podpis dostawcy usług Peppol"}}
	}
	if who.person {
		return authenticationMethod{"QualifiedSignature",
			methodInfo{"XadesSignature", "xades.qualified-signature", "Podpis kwalifikowany"}}
	}
	return authenticationMethod{"QualifiedSeal",
		methodInfo{"XadesSignature", "xades.qualified-seal", "Pieczęć kwalifikowana"}}
}

func tokenMethod() authenticationMethod {
	return authenticationMethod{"Token", methodInfo{"Token", "token.ksef", "Token KSeF"}}
}

func (s *Simulator) loginEndpoints() []endpoint {
	return []endpoint{
		{name: "POST /auth/xades-signature", scope: perClient, serve: s.loginBySignature},
		{name: "POST /auth/ksef-token", scope: perClient, serve: s.loginByToken},
		{name: "GET /auth/{referenceNumber}", scope: perClient, bearer: []string{operationJWT}, serve: s.loginStatus},
		{name: "POST /auth/token/redeem", scope: perClient, bearer: []string{operationJWT}, serve: s.redeem},
		{name: "POST /auth/token/refresh", scope: perClient, serve: s.refresh},
	}
}

// initResponse is AuthenticationInitResponse.
type initResponse struct {
	ReferenceNumber     string    `json:"referenceNumber"`
	AuthenticationToken tokenInfo `json:"authenticationToken"`
}

// begin records a login that will be decided after the login delay. The caller holds the lock.
func (s *Simulator) startLogin(req *request, l *login) response {
	l.reference = newReference(loginKind, req.now)
	l.started, l.due = req.now, req.now.Add(s.options.LoginDelay)
	if l.signed != nil && l.issued == nil {
		l.due = l.due.Add(s.options.QualifiedLoginDelay)
	}
	s.store.addLogin(l)
	s.store.ScheduleDecision(s.decisionTime(l))
	s.decideLogins(req.now)
	return accepted(initResponse{l.reference, s.issue(operationJWT, l, req.now, operationLifetime)})
}

// operationStatus is AuthenticationOperationStatusResponse, and part of AuthenticationListItem.
type operationStatus struct {
	StartDate              timestamp  `json:"startDate"`
	AuthenticationMethod   string     `json:"authenticationMethod,omitempty"`
	MethodInfo             methodInfo `json:"authenticationMethodInfo"`
	Status                 statusInfo `json:"status"`
	IsTokenRedeemed        bool       `json:"isTokenRedeemed"`
	LastTokenRefreshDate   timestamp  `json:"lastTokenRefreshDate"`
	RefreshTokenValidUntil timestamp  `json:"refreshTokenValidUntil"`
}

// operationStatus describes a login. The caller holds the lock.
func (s *Simulator) operationStatus(l *login) operationStatus {
	status := operationStatus{
		StartDate: timestamp(l.started), AuthenticationMethod: l.method.legacy, MethodInfo: l.method.info,
		Status: l.status(), IsTokenRedeemed: !l.redeemed.IsZero(), LastTokenRefreshDate: timestamp(l.refreshed),
	}
	if s.options.OmitAuthenticationMethod {
		status.AuthenticationMethod = ""
	}
	if status.IsTokenRedeemed {
		status.RefreshTokenValidUntil = timestamp(l.redeemed.Add(refreshLifetime).Truncate(time.Second))
	}
	return status
}

// loginStatus is GET /auth/{referenceNumber}. After 45 minutes the operation's own token is worth
// nothing any more, so that the documented 410 (after 7 days) can be had from a fault only.
func (s *Simulator) loginStatus(req *request) response {
	reference := req.PathValue("referenceNumber")
	if reference != req.login.reference {
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
