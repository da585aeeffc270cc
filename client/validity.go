// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import "time"

// ends are what an answer says of a token's end. The OpenAPI up to 2.9 gives tokens none. The
// Ministry has proposed one (ksef-api issue 834), so that answers are read for the two names that
// KSeF's API gives the ends of other things.
type ends struct {
	ValidTo        moment `json:"validTo"`
	ExpirationDate moment `json:"expirationDate"`
}

// moment is zero for what is not a moment in RFC 3339.
type moment struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(data []byte) error {
	if m.Time.UnmarshalJSON(data) != nil {
		m.Time = time.Time{}
	}
	return nil
}

// local returns the earlier end, by this machine's clock; zero for none.
func (e ends) local(c clock) time.Time {
	end := e.ValidTo.Time
	if other := e.ExpirationDate.Time; end.IsZero() || (!other.IsZero() && other.Before(end)) {
		end = other
	}
	if end.IsZero() {
		return end
	}
	return c.local(end)
}

func (t *NewToken) translate(c clock) { t.ValidUntil = t.ends.local(c) }

func (t *Token) translate(c clock) { t.ValidUntil = t.ends.local(c) }

func (p *TokenPage) translate(c clock) {
	for i := range p.Tokens {
		p.Tokens[i].translate(c)
	}
}
