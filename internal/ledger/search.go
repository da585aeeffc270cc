// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
)

// absentAfter is how long after the request a token that never appears in
// KSeF's list counts as never made.
const absentAfter = time.Hour

// nextLook grows with the age of the request: a token that KSeF was slow to
// make is found soon, one that it never made costs few requests.
func nextLook(created, now time.Time) time.Time {
	for _, age := range [...]time.Duration{time.Minute, 10 * time.Minute, absentAfter} {
		if look := created.Add(age); look.After(now) {
			return look
		}
	}
	return now.Add(absentAfter)
}

// search looks for the token of an intent by its nonce. Found, it is revoked:
// nobody has received it. finished means that the intent is settled.
func (p *pump) search(ctx context.Context, api Upstream, job *job) (finished bool, err error) {
	record := job.snapshot()
	token, err := p.findToken(ctx, api, record.Nonce)
	if err != nil {
		return false, err
	}
	if token == nil && time.Since(record.Created) < absentAfter {
		job.postpone(nextLook(record.Created, time.Now()))
		return false, nil
	}
	if token == nil && record.Author != api.Author() {
		return false, &jobError{fmt.Errorf("the token with the mark %s, if there is one, was made by %s; "+
			"the configured signer may not see it, so that it cannot be told whether it exists", record.Nonce, record.Author)}
	}
	if token != nil {
		if err := p.takeUpFound(ctx, record, token); err != nil {
			return false, err
		}
	}
	if err := p.ledger.store.remove(ctx, issuingKey(record.Nonce)); err != nil {
		return false, err
	}
	return true, nil
}

func (p *pump) findToken(ctx context.Context, api Upstream, nonce string) (*client.Token, error) {
	mountID, err := p.ledger.id(ctx)
	if err != nil {
		return nil, err
	}
	page, err := api.QueryTokens(ctx, client.TokenQuery{Description: nonce, PageSize: client.MinPageSize})
	if err != nil {
		return nil, fmt.Errorf("looking for the token with the mark %s: %w", nonce, err)
	}
	for _, token := range page.Tokens {
		if mount, found, ok := parseMarker(token.Description); ok && mount == mountID && found == nonce {
			return &token, nil
		}
	}
	return nil, nil
}

// takeUpFound has a token that was found revoked. An intent that still exists
// means that nobody has received the token, also where its record is live.
func (p *pump) takeUpFound(ctx context.Context, record Record, token *client.Token) error {
	if token.Status.Dead() {
		return p.ledger.store.remove(ctx, liveKey(record.Nonce, token.ReferenceNumber))
	}
	record.State, record.ReferenceNumber = Live, token.ReferenceNumber
	if err := p.ledger.abandon(ctx, &record, "the reply to its request was lost"); err != nil {
		return err
	}
	p.ledger.OnEvent(Event{Kind: EventRecover, Record: record})
	return nil
}
