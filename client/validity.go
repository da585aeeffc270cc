// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/json"
	"time"
)

// The OpenAPI up to 2.9 gives tokens no end. The Ministry has proposed one (ksef-api issue 834), so
// that answers are read for the two names that KSeF's API gives the ends of other things.

// UnmarshalJSON implements json.Unmarshaler.
func (t *NewToken) UnmarshalJSON(data []byte) error {
	type plain NewToken
	if err := json.Unmarshal(data, (*plain)(t)); err != nil {
		return err
	}
	t.ValidUntil = validUntil(data)
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Token) UnmarshalJSON(data []byte) error {
	type plain Token
	if err := json.Unmarshal(data, (*plain)(t)); err != nil {
		return err
	}
	t.ValidUntil = validUntil(data)
	return nil
}

// validUntil returns the earlier of the ends that an answer names; zero for none. What is not a
// moment in RFC 3339 is none.
func validUntil(data []byte) time.Time {
	var ends struct {
		ValidTo        json.RawMessage `json:"validTo"`
		ExpirationDate json.RawMessage `json:"expirationDate"`
	}
	if json.Unmarshal(data, &ends) != nil {
		return time.Time{}
	}
	first, second := moment(ends.ValidTo), moment(ends.ExpirationDate)
	if first.IsZero() || (!second.IsZero() && second.Before(first)) {
		return second
	}
	return first
}

func moment(value json.RawMessage) time.Time {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// localEnd is local for an end that may be zero.
func (c clock) localEnd(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return c.local(at)
}

func (t *NewToken) translate(c clock) { t.ValidUntil = c.localEnd(t.ValidUntil) }

func (t *Token) translate(c clock) { t.ValidUntil = c.localEnd(t.ValidUntil) }

func (p *TokenPage) translate(c clock) {
	for i := range p.Tokens {
		p.Tokens[i].translate(c)
	}
}
