// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package simulator

import (
	"fmt"
	"slices"
	"time"
)

// TokenMode is how KSeF treats KSeF tokens from 1 January 2027 on, Polish time. By law tokens may
// be used until then (Dz.U. 2025 poz. 1815, § 13). What follows is not decided (ksef-api issue
// 834), so the responses of the modes are guesses.
type TokenMode string

// The modes.
const (
	// TokensAccepted changes nothing.
	TokensAccepted TokenMode = "accepted"
	// TokensRefused makes no new tokens (400, code 26003), and logins with tokens end with status
	// 450. Existing sessions continue.
	TokensRefused TokenMode = "refused"
	// TokensExpiring makes tokens valid for a number of days, from their creation but not before
	// 2027. An expired token is Revoked. Logins with it end with status 450, and its sessions
	// cannot be refreshed.
	TokensExpiring TokenMode = "expiring"
)

// maxTokenValidity is the longest validity, in days, that the Ministry proposed in June 2026
// (ksef-api issue 834).
const maxTokenValidity = 365

const day = 24 * time.Hour

// tokenCutoff is 1 January 2027, 00:00, Polish time.
func tokenCutoff() time.Time { return time.Date(2026, time.December, 31, 23, 0, 0, 0, time.UTC) }

// tokenRules are the mode and the validity of tokens.
type tokenRules struct {
	mode TokenMode
	days int
}

func (p tokenRules) check() error {
	if !slices.Contains([]TokenMode{TokensAccepted, TokensRefused, TokensExpiring}, p.mode) {
		return fmt.Errorf("tokens %q is not known: use accepted, refused or expiring", p.mode)
	}
	if p.days < 1 || p.days > maxTokenValidity {
		return fmt.Errorf("a token's validity of %d days is not valid: use 1 to %d", p.days, maxTokenValidity)
	}
	return nil
}

// refuses reports whether tokens are refused at a time.
func (p tokenRules) refuses(at time.Time) bool {
	return p.mode == TokensRefused && !at.Before(tokenCutoff())
}

// expires returns when a token expires, or zero.
func (p tokenRules) expires(created time.Time) time.Time {
	if p.mode != TokensExpiring {
		return time.Time{}
	}
	begin := created
	if begin.Before(tokenCutoff()) {
		begin = tokenCutoff()
	}
	return begin.Add(time.Duration(p.days) * day)
}

// SetTokens changes the mode, also for existing tokens. Zero days keep the validity.
func (s *Simulator) SetTokens(mode TokenMode, days int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := tokenRules{mode, days}
	if days == 0 {
		rules.days = s.tokenRules.days
	}
	if err := rules.check(); err != nil {
		return err
	}
	s.decideLogins(s.now())
	s.tokenRules = rules
	for _, t := range s.store.AllTokens {
		t.Expires = rules.expires(t.Created)
	}
	return nil
}

// newTokenRefusal returns the refusal of new tokens, or nil. KSeF's code is not known.
func (s *Simulator) newTokenRefusal(now time.Time) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tokenRules.refuses(now) {
		return nil
	}
	return &apiError{26003, "Nie można wygenerować tokena.",
		[]string{"Od 1 stycznia 2027 r. tokeny KSeF nie są wydawane."}}
}
