// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
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

func newTokenFilter(query url.Values) (tokenFilter, *apiError) {
	filter := tokenFilter{
		statuses:    query["status"],
		description: strings.ToLower(query.Get("description")),
		author:      strings.ToLower(query.Get("authorIdentifier")),
		authorType:  query.Get("authorIdentifierType"),
	}
	for _, status := range filter.statuses {
		if !slices.Contains([]string{statusPending, statusActive, statusRevoking, statusRevoked, statusFailed}, status) {
			return tokenFilter{}, badInput("Status %q jest nieznany.", status)
		}
	}
	for _, name := range []string{"description", "authorIdentifier"} {
		if query.Has(name) && utf8.RuneCountInString(query.Get(name)) < minFilter {
			return tokenFilter{}, badInput("Parametr %s musi mieć co najmniej %d znaki.", name, minFilter)
		}
	}
	if query.Has("authorIdentifierType") && !slices.Contains([]string{TypeNIP, TypePESEL, TypeFingerprint}, filter.authorType) {
		return tokenFilter{}, badInput("Typ identyfikatora %q jest nieznany.", filter.authorType)
	}
	return filter, nil
}

func (f tokenFilter) matches(t *token, now time.Time) bool {
	switch {
	case len(f.statuses) > 0 && !slices.Contains(f.statuses, t.status(now)):
		return false
	case f.authorType != "" && t.author.Type != f.authorType:
		return false
	}
	return strings.Contains(strings.ToLower(t.author.Value), f.author) && strings.Contains(t.folded, f.description)
}

// tokenList is QueryTokensResponse.
type tokenList struct {
	ContinuationToken string      `json:"continuationToken,omitempty"`
	Tokens            []tokenItem `json:"tokens"`
}

// listTokens is GET /tokens: what the caller may see of its context, newest first.
func (s *Simulator) listTokens(c *call) reply {
	filter, refused := newTokenFilter(c.URL.Query())
	if refused != nil {
		return c.failed(refused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.store.lists[c.login.context]
	wanted, refused := c.newPage("tokens", len(all))
	if refused != nil {
		return c.failed(refused)
	}
	positions, next := wanted.pick(func(i int) bool {
		return filter.matches(all[i], c.now) && c.sees(all[i], "CredentialsManage", "CredentialsRead")
	})
	list := tokenList{ContinuationToken: next, Tokens: []tokenItem{}}
	for _, i := range positions {
		list.Tokens = append(list.Tokens, c.item(all[i]))
	}
	return ok(list)
}
