// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-ksef/simulator/internal/ippolicy"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// tokenLoginRequest is InitTokenAuthenticationRequest.
type tokenLoginRequest struct {
	Challenge           string           `json:"challenge"`
	ContextIdentifier   *ksef.Identifier `json:"contextIdentifier"`
	EncryptedToken      string           `json:"encryptedToken"`
	PublicKeyID         *string          `json:"publicKeyId"`
	AuthorizationPolicy *struct {
		AllowedIPs *ippolicy.AllowedIPs `json:"allowedIps"`
	} `json:"authorizationPolicy"`
}

// loginByToken serves POST /auth/ksef-token. A wrong token is accepted, and the login ends with
// status 450. A right one is checked again when the login is decided.
func (s *Simulator) loginByToken(req *request) response {
	var body tokenLoginRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	allowed, encrypted, refused := body.read()
	if refused != nil {
		return req.failed(refused)
	}
	keys, err := s.keys()
	if err != nil {
		return req.problemResponse(http.StatusInternalServerError, "Nie udało się utworzyć kluczy publicznych.")
	}
	if id := body.PublicKeyID; id != nil && *id != keys.Token.PublicKeyID() {
		return req.failed(unknownPublicKey(*id))
	}
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, keys.Token.Private, encrypted, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	made, valid := s.store.UseChallenge(body.Challenge, req.now)
	if !valid {
		return req.failed(invalidChallenge())
	}
	login := &store.Login{Owner: store.Owner{Context: *body.ContextIdentifier}, Method: tokenMethod(),
		IPPolicy: allowed}
	if err != nil {
		login.Failure = badToken("Nieprawidłowe szyfrowanie tokena")
	} else {
		s.matchToken(login, string(plain), made)
	}
	return s.startLogin(req, login)
}

// read validates the request. The caller compares the public key's identifier.
func (r tokenLoginRequest) read() (ippolicy.Policy, []byte, *apiError) {
	if len(r.Challenge) != 36 {
		return nil, nil, badInput("Pole challenge musi mieć 36 znaków.")
	}
	if r.ContextIdentifier == nil || !r.ContextIdentifier.WellFormed() || !r.ContextIdentifier.Valid() {
		return nil, nil, badInput("Pole contextIdentifier jest nieprawidłowe.")
	}
	if r.PublicKeyID != nil && len(*r.PublicKeyID) != publicKeyIDLength {
		return nil, nil, badInput("Pole publicKeyId musi mieć %d znaki.", publicKeyIDLength)
	}
	encrypted, err := base64.StdEncoding.DecodeString(r.EncryptedToken)
	if err != nil || len(encrypted) == 0 {
		return nil, nil, badInput("Pole encryptedToken musi być zapisane w base64.")
	}
	if r.AuthorizationPolicy == nil || r.AuthorizationPolicy.AllowedIPs == nil {
		return nil, encrypted, nil
	}
	allowed, fault := r.AuthorizationPolicy.AllowedIPs.Policy()
	if fault != "" {
		return nil, nil, badInput("%s", fault)
	}
	return allowed, encrypted, nil
}

func badToken(detail string) *store.StatusInfo {
	return &store.StatusInfo{Code: 450,
		Description: "Uwierzytelnianie zakończone niepowodzeniem z powodu błędnego tokenu", Details: []string{detail}}
}

// matchToken finds the token of a login, or records why the login fails. The caller holds the lock.
func (s *Simulator) matchToken(l *store.Login, plain string, challenged time.Time) {
	cut := strings.LastIndexByte(plain, '|')
	if cut < 0 {
		l.Failure = badToken("Nieprawidłowe kodowanie tokena")
		return
	}
	secret, sent := plain[:cut], plain[cut+1:]
	reference, _, parts := strings.Cut(secret, "|")
	milliseconds, err := strconv.ParseInt(sent, 10, 64)
	if err != nil || !parts {
		l.Failure = badToken("Nieprawidłowe kodowanie tokena")
		return
	}
	known := s.store.Tokens[reference]
	hash := sha256.Sum256([]byte(secret))
	switch {
	case milliseconds != challenged.UnixMilli():
		l.Failure = badToken("Nieprawidłowy czas tokena")
	case known == nil || subtle.ConstantTimeCompare(hash[:], known.Hash[:]) != 1:
		l.Failure = badToken("Nieprawidłowy token")
	case known.Context != l.Context:
		l.Failure = badToken("Token nie może być użyty w kontekście " + l.Context.Type + ": " + l.Context.Value)
	default:
		l.Owner = store.Owner{Context: known.Context, Identifier: known.Author, Token: known.Reference}
	}
}

// tokenFailure returns why a login with a token fails at a time, or nil. The caller holds the lock.
func (s *Simulator) tokenFailure(t *store.Token, at time.Time) *store.StatusInfo {
	if s.tokenRules.refuses(at) {
		return badToken("Od 1 stycznia 2027 r. uwierzytelnienie tokenem KSeF nie jest możliwe") // a guess
	}
	switch t.Status(at) {
	case store.StatusActive:
		return nil
	case store.StatusPending, store.StatusFailed:
		return badToken("Token nieaktywny")
	}
	if t.Revoked.IsZero() { // it has expired
		return badToken("Token nieaktywny")
	}
	return badToken("Token unieważniony")
}
