// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

func signatureMethod(who subject, issued *store.Certificate) store.AuthenticationMethod {
	if issued != nil {
		return store.AuthenticationMethod{Legacy: "InternalCertificate",
			Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.internal-certificate", DisplayName: "Certyfikat KSeF"}}
	}
	if who.identifier.Type == ksef.TypePeppolID {
		return store.AuthenticationMethod{Legacy: "PeppolSignature",
			Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.peppol-signature", DisplayName: "Podpis dostawcy usług Peppol"}}
	}
	if who.person {
		return store.AuthenticationMethod{Legacy: "QualifiedSignature",
			Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.qualified-signature", DisplayName: "Podpis kwalifikowany"}}
	}
	return store.AuthenticationMethod{Legacy: "QualifiedSeal",
		Info: store.MethodInfo{Category: "XadesSignature", Code: "xades.qualified-seal", DisplayName: "Pieczęć kwalifikowana"}}
}

func tokenMethod() store.AuthenticationMethod {
	return store.AuthenticationMethod{Legacy: "Token", Info: store.MethodInfo{Category: "Token", Code: "token.ksef", DisplayName: "Token KSeF"}}
}

func (s *Simulator) loginEndpoints() []endpoint {
	return []endpoint{
		{name: "POST /auth/xades-signature", scope: perClient, serve: s.loginBySignature},
		{name: "POST /auth/ksef-token", scope: perClient, serve: s.loginByToken},
		{name: "GET /auth/{referenceNumber}", scope: perClient, bearer: []string{jwt.Operation}, serve: s.loginStatus},
		{name: "POST /auth/token/redeem", scope: perClient, bearer: []string{jwt.Operation}, serve: s.redeem},
		{name: "POST /auth/token/refresh", scope: perClient, serve: s.refresh},
	}
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

// loginStatus is GET /auth/{referenceNumber}. After 45 minutes the operation's own token is worth
// nothing any more, so that the documented 410 (after 7 days) can be had from a fault only.
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
