// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/simulator/internal/jwt"
	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

const issueTokenEndpoint = "POST /tokens"

// Lengths of a token's description, in characters.
const (
	minDescription = 5
	maxDescription = 256
)

func (s *Simulator) tokenEndpoints() []endpoint {
	access := []string{jwt.Access}
	return []endpoint{
		{name: issueTokenEndpoint, bearer: access, serve: s.issueToken},
		{name: "GET /tokens", bearer: access, serve: s.listTokens},
		{name: "GET /tokens/{referenceNumber}", bearer: access, serve: s.tokenStatus},
		{name: "DELETE /tokens/{referenceNumber}", bearer: access, serve: s.revokeToken},
	}
}

// generateRequest is GenerateTokenRequest.
type generateRequest struct {
	Permissions []string `json:"permissions"`
	Description string   `json:"description"`
}

// generateResponse is GenerateTokenResponse.
type generateResponse struct {
	ReferenceNumber string `json:"referenceNumber"`
	Token           string `json:"token"`
}

// issueToken serves POST /tokens.
func (s *Simulator) issueToken(req *request) response {
	if req.login.Token != "" && !s.options.TokensMayIssueTokens {
		return req.methodNotAllowed()
	}
	if refused := s.newTokenRefusal(req.now); refused != nil {
		return req.failed(refused)
	}
	var body generateRequest
	if refused := req.readJSON(&body); refused != nil {
		return *refused
	}
	if refused := body.check(req.login.Context); refused != nil {
		return req.failed(refused)
	}
	if len(req.permissions) == 0 {
		return req.missingPermissions(body.Permissions...) // not documented: 26001 is for callers that have some
	}
	if refused := body.within(req.permissions); refused != nil {
		return req.failed(refused)
	}
	made, secret := s.newToken(req, body)
	s.mu.Lock()
	defer s.mu.Unlock()
	made.Expires = s.tokenRules.expires(made.Created)
	s.store.AddToken(made)
	return response{status: http.StatusAccepted, body: generateResponse{made.Reference, secret}}
}

func (r generateRequest) check(context ksef.Identifier) *apiError {
	if len(r.Permissions) == 0 {
		return badInput("Pole permissions musi zawierać co najmniej jedno uprawnienie.")
	}
	for _, permission := range r.Permissions {
		if !slices.Contains(ksef.AllPermissions(), permission) {
			return badInput("Uprawnienie %q jest nieznane.", permission)
		}
	}
	if length := utf8.RuneCountInString(r.Description); length < minDescription || length > maxDescription {
		return badInput("Pole description musi mieć od %d do %d znaków.", minDescription, maxDescription)
	}
	if kind := context.Type; kind != ksef.TypeNIP && kind != ksef.TypeInternalID {
		return &apiError{26002, "Nie można wygenerować tokena dla obecnego typu kontekstu.",
			[]string{"Obecny typ kontekstu: " + kind + ". Dozwolone typy kontekstu: Nip, InternalId."}}
	}
	return nil
}

// within refuses permissions that the caller does not have.
func (r generateRequest) within(granted []string) *apiError {
	missing := slices.DeleteFunc(slices.Clone(r.Permissions),
		func(permission string) bool { return slices.Contains(granted, permission) })
	if len(missing) == 0 {
		return nil
	}
	return &apiError{26001, "Nie można nadać tokenowi uprawnień których nie posiadasz.",
		[]string{"Brakujące uprawnienia: " + strings.Join(missing, ", ") + "."}}
}

// newToken makes a token and its secret, in the form of real ones: <reference
// number>|nip-5265877635|<64 hexadecimal digits>. The store keeps only a hash.
func (s *Simulator) newToken(req *request, body generateRequest) (*store.Token, string) {
	context := "nip-" + req.login.Context.Value
	if req.login.Context.Type == ksef.TypeInternalID {
		context = "internalId-" + req.login.Context.Value
	}
	reference := ksef.NewReference(ksef.TokenKind, req.now)
	secret := reference + "|" + context + "|" + ksef.RandomHex(64)
	return &store.Token{
		Reference: reference, Hash: sha256.Sum256([]byte(secret)),
		Context: req.login.Context, Author: req.login.Identifier,
		Description: body.Description, Folded: strings.ToLower(body.Description),
		Permissions: body.Permissions,
		Created:     req.now, Decided: req.now.Add(s.options.ActivationDelay),
		Fails: req.fault.Kind == FaultFailActivation,
	}, secret
}

// tokenItem is QueryTokensResponseItem and TokenStatusResponse.
type tokenItem struct {
	ReferenceNumber      string          `json:"referenceNumber"`
	AuthorIdentifier     ksef.Identifier `json:"authorIdentifier"`
	ContextIdentifier    ksef.Identifier `json:"contextIdentifier"`
	Description          string          `json:"description"`
	RequestedPermissions []string        `json:"requestedPermissions"`
	DateCreated          timestamp       `json:"dateCreated"`
	LastUseDate          timestamp       `json:"lastUseDate"`
	Status               string          `json:"status"`
	StatusDetails        []string        `json:"statusDetails"`
}

func (req *request) item(t *store.Token) tokenItem {
	status := t.Status(req.now)
	details := []string{}
	switch {
	case status == store.StatusFailed:
		details = append(details, "Nie udało się aktywować tokena.")
	case status == store.StatusRevoked && t.Revoked.IsZero():
		details = append(details, "Upłynął termin ważności tokena.")
	}
	return tokenItem{
		t.Reference, t.Author, t.Context, t.Description, t.Permissions,
		timestamp(t.Created), timestamp(t.LastUse), status, details,
	}
}

// maySee reports whether the caller may see or revoke a token of its context: any token with one of
// the permissions, otherwise its own token after a token login, and the tokens of the same author
// after a signature.
func (req *request) maySee(t *store.Token, permissions ...string) bool {
	if req.hasAny(permissions...) {
		return true
	}
	if req.login.Token != "" {
		return t.Reference == req.login.Token
	}
	return t.Author == req.login.Identifier
}

// tokenStatus serves GET /tokens/{referenceNumber}. A token of another context is unknown in this
// one.
func (s *Simulator) tokenStatus(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	reference, refused := req.reference()
	if refused != nil {
		return req.failed(refused)
	}
	found, refused := s.findToken(req, reference)
	if refused != nil {
		return req.failed(refused)
	}
	readsAll := s.options.TokensReadOthers && req.login.Token != ""
	if !readsAll && !req.maySee(found, "CredentialsManage", "CredentialsRead") {
		return req.missingPermissions("CredentialsManage", "CredentialsRead")
	}
	return ok(req.item(found))
}

// findToken returns a token of the caller's context. The caller holds the lock.
func (s *Simulator) findToken(req *request, reference string) (*store.Token, *apiError) {
	found := s.store.Tokens[reference]
	if found == nil || found.Context != req.login.Context {
		return nil, badInput("Token o numerze referencyjnym %s nie istnieje.", reference)
	}
	return found, nil
}

// minFilter is the minimum length of a search text, in characters.
const minFilter = 3

// tokenFilter is the filter of GET /tokens.
type tokenFilter struct {
	statuses    []string
	description string // in lower case
	author      string // in lower case
	authorType  string
}

// newTokenFilter reads the query. Enum values match in any case: ksef2's tests send them to TEST in
// lower case.
func newTokenFilter(query url.Values) (tokenFilter, *apiError) {
	filter := tokenFilter{
		description: strings.ToLower(query.Get("description")),
		author:      strings.ToLower(query.Get("authorIdentifier")),
	}
	for _, text := range query["status"] {
		status, known := enumValue(text, store.StatusPending, store.StatusActive, store.StatusRevoking,
			store.StatusRevoked, store.StatusFailed)
		if !known {
			return tokenFilter{}, badInput("Status %q jest nieznany.", text)
		}
		filter.statuses = append(filter.statuses, status)
	}
	for _, name := range []string{"description", "authorIdentifier"} {
		if query.Has(name) && utf8.RuneCountInString(query.Get(name)) < minFilter {
			return tokenFilter{}, badInput("Parametr %s musi mieć co najmniej %d znaki.", name, minFilter)
		}
	}
	if !query.Has("authorIdentifierType") {
		return filter, nil
	}
	text := query.Get("authorIdentifierType")
	kind, known := enumValue(text, ksef.TypeNIP, ksef.TypePESEL, ksef.TypeFingerprint)
	if !known {
		return tokenFilter{}, badInput("Typ identyfikatora %q jest nieznany.", text)
	}
	filter.authorType = kind
	return filter, nil
}

func (f tokenFilter) matches(t *store.Token, now time.Time) bool {
	switch {
	case len(f.statuses) > 0 && !slices.Contains(f.statuses, t.Status(now)):
		return false
	case f.authorType != "" && t.Author.Type != f.authorType:
		return false
	}
	return strings.Contains(strings.ToLower(t.Author.Value), f.author) && strings.Contains(t.Folded, f.description)
}

// tokenList is QueryTokensResponse.
type tokenList struct {
	ContinuationToken string      `json:"continuationToken,omitempty"`
	Tokens            []tokenItem `json:"tokens"`
}

// listTokens serves GET /tokens: what the caller may see in its context, newest first.
func (s *Simulator) listTokens(req *request) response {
	filter, refused := newTokenFilter(req.URL.Query())
	if refused != nil {
		return req.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.store.TokensByContext[req.login.Context]
	wanted, refused := req.newPage("tokens", len(all))
	if refused != nil {
		return req.failed(refused)
	}
	positions, next := wanted.pick(func(i int) bool {
		return filter.matches(all[i], req.now) && req.maySee(all[i], "CredentialsManage", "CredentialsRead")
	})
	list := tokenList{ContinuationToken: next, Tokens: []tokenItem{}}
	for _, i := range positions {
		list.Tokens = append(list.Tokens, req.item(all[i]))
	}
	return ok(list)
}

// revokeToken serves DELETE /tokens/{referenceNumber}.
func (s *Simulator) revokeToken(req *request) response {
	s.mu.Lock()
	defer s.mu.Unlock()
	reference, refused := req.reference()
	if refused != nil {
		return req.failed(refused)
	}
	found, refused := s.findToken(req, reference)
	if refused != nil {
		return req.deleteResponse(s.options.DeleteUnknownToken, refused)
	}
	if !req.maySee(found, "CredentialsManage") {
		return req.missingPermissions("CredentialsManage")
	}
	status := found.Status(req.now)
	notNow := badInput("Token o statusie %s nie może zostać unieważniony.", status)
	if slices.Contains([]string{store.StatusRevoking, store.StatusRevoked, store.StatusFailed}, status) {
		return req.deleteResponse(s.options.DeleteDeadToken, notNow)
	}
	if status == store.StatusPending && s.options.DeletePendingToken != AnswerNoContent {
		return req.deleteResponse(s.options.DeletePendingToken, notNow)
	}
	found.Revoked, found.RevocationEnds = req.now, req.now.Add(s.options.RevocationDelay)
	s.store.ScheduleDecision(req.now) // decides logins with it
	return noContent()
}

func (req *request) deleteResponse(chosen DeleteAnswer, refused *apiError) response {
	switch chosen {
	case AnswerNoContent:
		return noContent()
	case AnswerForbidden:
		return req.insufficientAccess()
	}
	return req.failed(refused)
}
