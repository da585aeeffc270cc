// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// absentAfter is how long after its request a token that is not in KSeF's list counts as never
// made.
const absentAfter = time.Hour

// How far KSeF's clock may be behind. A list is read back to that long before the request; the last
// search, after which the request is forgotten, reads further.
const (
	clockAllowance     = 2 * time.Hour
	lastClockAllowance = 24 * time.Hour
)

// firstSearchDelay leaves KSeF the time to finish the request. The first search is rounded up to
// firstSearchGrid, later ones to searchGrid, so that one search serves requests that were lost
// together.
const (
	firstSearchDelay = 3 * time.Second
	firstSearchGrid  = 5 * time.Second
	searchGrid       = time.Minute
)

func firstSearch(created time.Time) time.Time {
	return roundUp(created.Add(firstSearchDelay), firstSearchGrid)
}

// nextSearch is later for older requests: a token that KSeF was slow to make is found soon, and one
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

// search does all tasks of the queue that are due, first among them, with one reading of KSeF's
// list.
func (r *reconciler) search(ctx context.Context, first *task) {
	r.mu.Lock()
	tasks := append([]*task{first}, first.queue.takeDue(time.Now())...)
	wanted := make([]Record, 0, len(tasks))
	for _, task := range tasks {
		wanted = append(wanted, task.record)
	}
	r.mu.Unlock()
	search, err := r.ledger.readList(ctx, first.queue.key.target, wanted, reconcilerMaxWait, absentAfter)
	for i, task := range tasks {
		finished, failure := false, err
		if err == nil {
			finished, failure = search.settle(ctx, &wanted[i])
		}
		r.completeOrRequeue(task, finished, failure)
		if failure != nil && (err == nil || i == 0) && ctx.Err() == nil {
			r.reportFailure(task, failure)
		}
	}
}

// listReading is a reading of KSeF's list.
type listReading struct {
	ledger  *Ledger
	subject string
	// absent is how long after its request a token that is not in the list counts as never made.
	absent time.Duration
	// found are the tokens by their nonce: more than one where a mark was copied.
	found map[string][]client.Token
}

// readList reads KSeF's list as far back as the tokens of the requests may lie.
func (l *Ledger) readList(ctx context.Context, target Target, wanted []Record, maxWait, absent time.Duration) (s *listReading, err error) {
	defer background.Recover(l.Logger, "the reconciler", &err)
	if err := l.breaker(target.API).Check(); err != nil {
		return nil, err
	}
	mountID, err := l.id(ctx)
	if err != nil {
		return nil, err
	}
	api, err := l.Upstream(ctx, target, ratelimit.Wait{AtMost: maxWait})
	if err != nil {
		return nil, err
	}
	s = &listReading{ledger: l, subject: api.Subject(), absent: absent, found: make(map[string][]client.Token)}
	oldest := oldestOf(wanted, absent)
	// Tokens that are Revoking or Revoked need no revocation.
	query := client.TokenQuery{
		Description: mountMark(mountID),
		Statuses:    []string{string(client.StatusPending), string(client.StatusActive), string(client.StatusFailed)},
	}
	for tokens, err := range listPages(ctx, api, query) {
		if err != nil {
			return nil, fmt.Errorf("searching for the tokens of %d requests whose replies were lost: %w", len(wanted), err)
		}
		for _, token := range tokens {
			if mount, nonce, ok := parseMarker(token.Description); ok && mount == mountID {
				s.found[nonce] = append(s.found[nonce], token)
			}
		}
		// An empty page may have others after it.
		if len(tokens) > 0 && tokens[len(tokens)-1].Created.Before(oldest) {
			break
		}
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

// settle revokes the request's token if it was found, since it was never returned. finished means
// that the search is over.
func (s *listReading) settle(ctx context.Context, record *Record) (finished bool, err error) {
	defer background.Recover(s.ledger.Logger, "the reconciler", &err)
	tokens := s.found[record.Nonce]
	if len(tokens) == 0 && time.Since(record.Created) < s.absent {
		return false, nil
	}
	if len(tokens) == 0 && record.Subject != s.subject {
		return false, &taskError{unsettled: true, err: fmt.Errorf("the token with the mark %s, if there is one, was made by %s; "+
			"the configured signer may not see it, so whether it exists is unknown until the one that made it is configured", record.Nonce, record.Subject)}
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

// UnsettledRequests describes, in one sentence each, the requests for tokens that the configured
// signer cannot settle. It reads no storage.
func (l *Ledger) UnsettledRequests() []string {
	l.reconciler.mu.Lock()
	defer l.reconciler.mu.Unlock()
	return sentences(l.reconciler.lost, func(task *task) string {
		if failed, ok := errors.AsType[*taskError](task.lastErr); ok && failed.unsettled {
			return failed.Error()
		}
		return ""
	})
}

// revokeFound revokes a token that was found. Its intent proves that it was never returned, even
// where its record is live.
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

const (
	// absentAtOnce replaces absentAfter where a caller waits for the outcome.
	absentAtOnce = 2 * time.Minute
	// settleMaxWait is how long such a search waits for KSeF's limits, settleTimeout how long for
	// all.
	settleMaxWait = 5 * time.Second
	settleTimeout = 20 * time.Second
)

// Lost describes the requests for tokens whose outcome is still unknown.
type Lost struct {
	Count int
	// Until is when the last of them counts as never made, unless its token is found before; zero
	// where that needs another signer.
	Until time.Time
	// Err is why KSeF could not be searched; nil where it was.
	Err error
}

// SettleLost searches KSeF now for the tokens of the requests whose replies were lost. Those found
// are revoked; those older than two minutes and not in KSeF's list count as never made.
func (l *Ledger) SettleLost(ctx context.Context) (Lost, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	wanted := make(map[Target][]Record)
	err := l.reconciler.eachIntent(ctx, l.isInFlight, func(record *Record) {
		wanted[record.Target] = append(wanted[record.Target], *record)
	})
	if err != nil {
		return Lost{}, err
	}
	var lost Lost
	for target, records := range wanted {
		l.settleTarget(ctx, target, records, &lost)
	}
	return lost, nil
}

func (l *Ledger) settleTarget(ctx context.Context, target Target, records []Record, lost *Lost) {
	search, err := l.readList(ctx, target, records, settleMaxWait, absentAtOnce)
	for _, record := range records {
		finished, failure := false, err
		if err == nil {
			finished, failure = search.settle(ctx, &record)
		}
		if finished {
			l.reconciler.dropSearch(record.Nonce)
			l.reconciler.awaitRevocations(ctx, search.found[record.Nonce])
			continue
		}
		lost.Count++
		if failed, ok := errors.AsType[*taskError](failure); !ok || !failed.unsettled {
			lost.Until = later(lost.Until, roundUp(record.Created.Add(absentAfter), searchGrid))
		}
		if failure != nil {
			lost.Err = failure
		}
	}
}

// awaitRevocations waits for one attempt to revoke each token.
func (r *reconciler) awaitRevocations(ctx context.Context, tokens []client.Token) {
	for _, token := range tokens {
		r.mu.Lock()
		task := r.revoking[token.ReferenceNumber]
		r.mu.Unlock()
		if task != nil {
			r.ledger.wait(ctx, task, settleTimeout, task.stuck)
		}
	}
}

// dropSearch removes the task of a settled request. A running one ends by itself.
func (r *reconciler) dropSearch(nonce string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	task := r.lost[nonce]
	if task == nil || !task.queue.remove(task) {
		return
	}
	delete(r.lost, nonce)
	close(task.done)
	task.queue.wakeWorkers()
}

// maxPages bounds the reading of a list, whatever KSeF answers.
const maxPages = 1000

// listPages reads KSeF's list page by page, newest tokens first. It ends with an error where it
// cannot read the last page.
func listPages(ctx context.Context, api Upstream, query client.TokenQuery) iter.Seq2[[]client.Token, error] {
	return func(yield func([]client.Token, error) bool) {
		query.PageSize, query.Continuation = client.MaxPageSize, ""
		for range maxPages {
			page, err := api.QueryTokens(ctx, query)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page.Tokens, nil) || page.Continuation == "" {
				return
			}
			query.Continuation = page.Continuation
		}
		yield(nil, fmt.Errorf("KSeF's list has more than %d pages", maxPages))
	}
}
