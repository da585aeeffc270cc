// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/budget"
)

// absentAfter is how long after the request a token that never appears in
// KSeF's list counts as never made.
const absentAfter = time.Hour

// How far KSeF's clock may be behind. A list is read back to that long before the request; the last
// look, after which the request is forgotten, reads further.
const (
	clockAllowance     = 2 * time.Hour
	lastClockAllowance = 24 * time.Hour
)

// firstLook leaves KSeF the time to finish what it was asked for. It is rounded up to firstLookGrid,
// and the later ones to lookGrid, so that requests that were lost together are looked for together.
const (
	firstLook     = 3 * time.Second
	firstLookGrid = 5 * time.Second
	lookGrid      = time.Minute
)

func firstLookAt(created time.Time) time.Time { return roundUp(created.Add(firstLook), firstLookGrid) }

// nextLook grows with the age of the request: a token that KSeF was slow to
// make is found soon, one that it never made costs few requests.
func nextLook(created, now time.Time) time.Time {
	for _, age := range [...]time.Duration{time.Minute, 10 * time.Minute, absentAfter} {
		if look := roundUp(created.Add(age), lookGrid); look.After(now) {
			return look
		}
	}
	return now.Add(absentAfter)
}

func roundUp(at time.Time, grid time.Duration) time.Time {
	return at.Add(grid - 1).Truncate(grid)
}

// search looks for the tokens of all requests of the lane that are due, with one reading of KSeF's
// list. The first job is one of them.
func (p *pump) search(ctx context.Context, lane *lane, first *job) {
	jobs := append([]*job{first}, p.takeDue(lane)...)
	wanted := make([]Record, 0, len(jobs))
	for _, job := range jobs {
		wanted = append(wanted, job.snapshot())
	}
	search, err := p.readList(ctx, lane.key.target, wanted)
	for i, job := range jobs {
		finished, failure := false, err
		if err == nil {
			finished, failure = search.settle(ctx, &wanted[i])
		}
		if !finished && failure == nil {
			job.postpone(nextLook(wanted[i].Created, time.Now()))
		}
		p.decide(ctx, lane, job, finished, failure)
		if failure != nil && (err == nil || i == 0) && ctx.Err() == nil {
			p.report(job, failure)
		}
	}
}

func (p *pump) readList(ctx context.Context, target Target, wanted []Record) (*search, error) {
	if err := p.ledger.breaker(target.API).check(); err != nil {
		return nil, err
	}
	return p.ledger.search(ctx, target, wanted, pumpPatience, absentAfter)
}

// search is a reading of KSeF's list.
type search struct {
	ledger *Ledger
	author string
	// absent is how long after its request a token that is not in the list counts as never made.
	absent time.Duration
	// found are the tokens by their nonce: more than one where somebody has copied a mark.
	found map[string][]client.Token
}

// search reads KSeF's list as far back as the tokens of the requests may lie.
func (l *Ledger) search(ctx context.Context, target Target, wanted []Record, maxWait, absent time.Duration) (s *search, err error) {
	defer l.contain(&err)
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	api, err := l.Open(ctx, target, budget.Wait{AtMost: maxWait})
	if err != nil {
		return nil, err
	}
	s = &search{ledger: l, author: api.Author(), absent: absent, found: make(map[string][]client.Token)}
	oldest := oldestOf(wanted, absent)
	// The end of a token that is Revoking or Revoked is known already.
	query := client.TokenQuery{
		Description: mountMark(mountID),
		Statuses:    []string{string(client.StatusPending), string(client.StatusActive), string(client.StatusFailed)},
	}
	err = eachPage(ctx, api, query, func(tokens []client.Token) bool {
		for _, token := range tokens {
			if mount, nonce, ok := parseMarker(token.Description); ok && mount == mountID {
				s.found[nonce] = append(s.found[nonce], token)
			}
		}
		// An empty page may have others after it.
		return len(tokens) == 0 || !tokens[len(tokens)-1].Created.Before(oldest)
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the tokens of %d requests whose replies were lost: %w", len(wanted), err)
	}
	return s, nil
}

// oldestOf is when the oldest of the tokens may have been made, by KSeF's clock.
func oldestOf(wanted []Record, absent time.Duration) time.Time {
	oldest := time.Now()
	for _, record := range wanted {
		allowance := clockAllowance
		if time.Since(record.Created) >= absent {
			allowance = lastClockAllowance
		}
		if since := record.Created.Add(-allowance); since.Before(oldest) {
			oldest = since
		}
	}
	return oldest
}

// settle has the request's token revoked if it was found: nobody has received it. finished means
// that nothing is left to look for.
func (s *search) settle(ctx context.Context, record *Record) (finished bool, err error) {
	defer s.ledger.contain(&err)
	tokens := s.found[record.Nonce]
	if len(tokens) == 0 && time.Since(record.Created) < s.absent {
		return false, nil
	}
	if len(tokens) == 0 && record.Author != s.author {
		return false, &unsettledError{fmt.Errorf("the token with the mark %s, if there is one, was made by %s; "+
			"the configured signer may not see it, so that it cannot be told whether it exists before the one that made it is configured", record.Nonce, record.Author)}
	}
	for _, token := range tokens {
		if err := s.ledger.takeUpFound(ctx, *record, &token); err != nil {
			return false, err
		}
	}
	if err := s.ledger.store.remove(ctx, issuingKey(record.Nonce)); err != nil {
		return false, err
	}
	return true, nil
}

// unsettledError says that the configured signer cannot settle a request whose reply was lost.
type unsettledError struct{ err error }

func (e *unsettledError) Error() string { return e.err.Error() }

// Unwrap returns an error that concerns the request alone.
func (e *unsettledError) Unwrap() error { return &jobError{e.err} }

// UnsettledRequests says, one sentence each, which requests for tokens no search settles as long as
// the signer is the configured one. It reads no storage.
func (l *Ledger) UnsettledRequests() []string {
	l.pump.mu.Lock()
	defer l.pump.mu.Unlock()
	var sentences []string
	for _, job := range l.pump.lost {
		var unsettled *unsettledError
		if _, err := job.failure(); errors.As(err, &unsettled) {
			sentences = append(sentences, unsettled.Error())
		}
	}
	slices.Sort(sentences)
	return sentences
}

// takeUpFound has a token that was found revoked. An intent that still exists
// means that nobody has received the token, also where its record is live.
func (l *Ledger) takeUpFound(ctx context.Context, record Record, token *client.Token) error {
	if token.Status.Dead() {
		return l.store.remove(ctx, liveKey(record.Nonce, token.ReferenceNumber))
	}
	record.State, record.ReferenceNumber = Live, token.ReferenceNumber
	if err := l.abandon(ctx, &record, "the reply to its request was lost"); err != nil {
		return err
	}
	l.OnEvent(Event{Kind: EventRecover, Record: record})
	return nil
}
