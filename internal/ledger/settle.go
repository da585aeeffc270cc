// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-ksef/client"
)

const (
	// absentAtOnce takes the place of absentAfter where somebody waits for the outcome.
	absentAtOnce = 2 * time.Minute
	// settleMaxWait is how long such a search waits for KSeF's limits, settleTimeout how long for
	// all.
	settleMaxWait = 5 * time.Second
	settleTimeout = 20 * time.Second
)

// Lost is what is left of the requests for tokens whose outcome is unknown.
type Lost struct {
	Count int
	// Until is when the last of them counts as never made, unless its token is found before; zero
	// where only another signer can tell.
	Until time.Time
	// Err is why KSeF could not be searched; nil where it was.
	Err error
}

// SettleLost searches KSeF at once for the tokens of the requests whose replies were lost. What is
// found is revoked, and what is older than two minutes and not in KSeF's list counts as never made.
func (l *Ledger) SettleLost(ctx context.Context) (Lost, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	wanted := make(map[Target][]Record)
	err := l.reconciler.each(ctx, issuingPrefix, l.isInFlight, func(record *Record) error {
		wanted[record.Target] = append(wanted[record.Target], *record)
		return nil
	})
	if err != nil && !errors.Is(err, errUnreadableRecord) {
		return Lost{}, err
	}
	var lost Lost
	for target, records := range wanted {
		l.settleTarget(ctx, target, records, &lost)
	}
	return lost, nil
}

func (l *Ledger) settleTarget(ctx context.Context, target Target, records []Record, lost *Lost) {
	err := l.breaker(target.API).check()
	var search *search
	if err == nil {
		search, err = l.search(ctx, target, records, settleMaxWait, absentAtOnce)
	}
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
		if unsettled := new(*unsettledError); !errors.As(failure, unsettled) {
			lost.Until = later(lost.Until, roundUp(record.Created.Add(absentAfter), searchGrid))
		}
		if failure != nil {
			lost.Err = failure
		}
	}
}

// awaitRevocations waits until KSeF has confirmed the end of the tokens, or has failed to.
func (p *reconciler) awaitRevocations(ctx context.Context, tokens []client.Token) {
	for _, token := range tokens {
		p.mu.Lock()
		task := p.revoking[token.ReferenceNumber]
		p.mu.Unlock()
		if task == nil {
			continue
		}
		select {
		case <-task.done:
		case <-task.stuck:
		case <-ctx.Done():
			return
		}
	}
}

// dropSearch forgets a search that has been settled elsewhere. One that is in progress ends by
// itself.
func (p *reconciler) dropSearch(nonce string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	task := p.lost[nonce]
	if task == nil || !task.queue.remove(task) {
		return
	}
	delete(p.lost, nonce)
	close(task.done)
	task.queue.wakeWorkers()
}
