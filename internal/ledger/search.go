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
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// absentAfter is how long after the request a token that never appears in KSeF's list counts as
// never made.
const absentAfter = time.Hour

// How far KSeF's clock may be behind. A list is read back to that long before the request; the last
// look, after which the request is forgotten, reads further.
const (
	clockAllowance     = 2 * time.Hour
	lastClockAllowance = 24 * time.Hour
)

// firstSearchDelay leaves KSeF the time to finish what it was asked for. It is rounded up to
// firstSearchGrid, and the later ones to searchGrid, so that requests that were lost together are
// looked for together.
const (
	firstSearchDelay = 3 * time.Second
	firstSearchGrid  = 5 * time.Second
	searchGrid       = time.Minute
)

func firstSearch(created time.Time) time.Time {
	return roundUp(created.Add(firstSearchDelay), firstSearchGrid)
}

// nextPoll grows with the age of the request: a token that KSeF was slow to make is found soon, one
// that it never made costs few requests.
func nextSearch(created, now time.Time) time.Time {
	for _, age := range [...]time.Duration{time.Minute, 10 * time.Minute, absentAfter} {
		if next := roundUp(created.Add(age), searchGrid); next.After(now) {
			return next
		}
	}
	return now.Add(absentAfter)
}

func roundUp(at time.Time, grid time.Duration) time.Time {
	return at.Add(grid - 1).Truncate(grid)
}

// search looks for the tokens of all requests of the queue that are due, with one reading of KSeF's
// list. The first task is one of them.
func (p *reconciler) search(ctx context.Context, queue *queue, first *task) {
	tasks := append([]*task{first}, p.takeDue(queue)...)
	wanted := make([]Record, 0, len(tasks))
	for _, task := range tasks {
		wanted = append(wanted, task.snapshot())
	}
	search, err := p.readList(ctx, queue.key.target, wanted)
	for i, task := range tasks {
		finished, failure := false, err
		if err == nil {
			finished, failure = search.settle(ctx, &wanted[i])
		}
		if !finished && failure == nil {
			task.postpone(nextSearch(wanted[i].Created, time.Now()))
		}
		p.decide(ctx, queue, task, finished, failure)
		if failure != nil && (err == nil || i == 0) && ctx.Err() == nil {
			p.report(task, failure)
		}
	}
}

func (p *reconciler) readList(ctx context.Context, target Target, wanted []Record) (*search, error) {
	if err := p.ledger.breaker(target.API).check(); err != nil {
		return nil, err
	}
	return p.ledger.search(ctx, target, wanted, reconcilerMaxWait, absentAfter)
}

// search is a reading of KSeF's list.
type search struct {
	ledger  *Ledger
	subject string
	// absent is how long after its request a token that is not in the list counts as never made.
	absent time.Duration
	// found are the tokens by their nonce: more than one where somebody has copied a mark.
	found map[string][]client.Token
}

// search reads KSeF's list as far back as the tokens of the requests may lie.
func (l *Ledger) search(ctx context.Context, target Target, wanted []Record, maxWait, absent time.Duration) (s *search, err error) {
	defer background.Recover(l.Logger, "the reconciler", &err)
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	api, err := l.Open(ctx, target, ratelimit.Wait{AtMost: maxWait})
	if err != nil {
		return nil, err
	}
	s = &search{ledger: l, subject: api.Subject(), absent: absent, found: make(map[string][]client.Token)}
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
	defer background.Recover(s.ledger.Logger, "the reconciler", &err)
	tokens := s.found[record.Nonce]
	if len(tokens) == 0 && time.Since(record.Created) < s.absent {
		return false, nil
	}
	if len(tokens) == 0 && record.Subject != s.subject {
		return false, &unsettledError{fmt.Errorf("the token with the mark %s, if there is one, was made by %s; "+
			"the configured signer may not see it, so that it cannot be told whether it exists before the one that made it is configured", record.Nonce, record.Subject)}
	}
	for _, token := range tokens {
		if err := s.ledger.revokeFound(ctx, *record, &token); err != nil {
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
func (e *unsettledError) Unwrap() error { return &taskError{e.err} }

// UnsettledRequests says, one sentence each, which requests for tokens no search settles as long as
// the signer is the configured one. It reads no storage.
func (l *Ledger) UnsettledRequests() []string {
	l.reconciler.mu.Lock()
	defer l.reconciler.mu.Unlock()
	var sentences []string
	for _, task := range l.reconciler.lost {
		var unsettled *unsettledError
		if _, err := task.failure(); errors.As(err, &unsettled) {
			sentences = append(sentences, unsettled.Error())
		}
	}
	slices.Sort(sentences)
	return sentences
}

// revokeFound has a token that was found revoked. An intent that still exists means that nobody has
// received the token, also where its record is live.
func (l *Ledger) revokeFound(ctx context.Context, record Record, token *client.Token) error {
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
