// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"net/http"
	"time"
)

// accessLife is how long KSeF's access tokens live.
const accessLife = 15 * time.Minute

// clock translates moments of KSeF's clock, which may differ from this machine's.
type clock struct {
	// sent is when the request left, with this machine's monotonic reading.
	sent time.Time
	// date is KSeF's own clock in its answer; zero where it does not say.
	date time.Time
}

// onClock is an answer that holds moments of KSeF's clock.
type onClock interface{ translate(clock) }

func newClock(sent time.Time, header http.Header) clock {
	date, _ := http.ParseTime(header.Get("Date")) // zero where it cannot be read
	return clock{sent: sent, date: date}
}

// local returns when this machine's clock will show what KSeF's shows at the given moment.
func (c clock) local(at time.Time) time.Time {
	if c.date.IsZero() {
		return at
	}
	return c.sent.Add(at.Sub(c.date))
}

// localAccess is local for the end of an access token that was just made. Where the answer's Date
// is missing or not KSeF's own, so that no such life can be, it is taken to have the usual one.
func (c clock) localAccess(at time.Time) time.Time {
	if life := c.local(at).Sub(c.sent); life > 0 && life <= accessLife {
		return c.sent.Add(life)
	}
	return c.sent.Add(accessLife)
}

func (o *Operation) translate(c clock) { o.Token.ValidUntil = c.local(o.Token.ValidUntil) }

func (t *Tokens) translate(c clock) {
	t.Access.ValidUntil = c.localAccess(t.Access.ValidUntil)
	t.Refresh.ValidUntil = c.local(t.Refresh.ValidUntil)
}

// refreshed is the answer to a refresh.
type refreshed struct {
	Access Bearer `json:"accessToken"`
}

func (r *refreshed) translate(c clock) { r.Access.ValidUntil = c.localAccess(r.Access.ValidUntil) }
