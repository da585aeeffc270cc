// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"vault-plugin-secrets-ksef/simulator/internal/ksef"
	"vault-plugin-secrets-ksef/simulator/internal/store"
)

// minFilter is how many characters a text to search for must have.
const minFilter = 3

// tokenFilter is what GET /tokens asks for.
type tokenFilter struct {
	statuses    []string
	description string // in lower case
	author      string // in lower case
	authorType  string
}

// newTokenFilter reads the query. Values of enums are taken in any case: ksef2's tests send them to
// TEST in lower case.
func newTokenFilter(query url.Values) (tokenFilter, *apiError) {
	filter := tokenFilter{
		description: strings.ToLower(query.Get("description")),
		author:      strings.ToLower(query.Get("authorIdentifier")),
	}
	for _, text := range query["status"] {
		status, known := enumValue(text, store.StatusPending, store.StatusActive, store.StatusRevoking, store.StatusRevoked, store.StatusFailed)
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

// listTokens is GET /tokens: what the caller may see of its context, newest first.
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
