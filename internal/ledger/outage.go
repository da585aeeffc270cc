// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"maps"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/breaker"
)

func (l *Ledger) breaker(api string) *breaker.Breaker {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.breakers[api]
	if found == nil {
		found = breaker.New(api, func() error { return l.probe(api) })
		l.breakers[api] = found
	}
	return found
}

// probeTimeout bounds a probe.
const probeTimeout = 5 * time.Second

// probe has the ledger's context, since several callers share its result.
func (l *Ledger) probe(api string) (err error) {
	defer background.Recover(l.Logger, "the probe of KSeF", &err)
	ctx, cancel := context.WithTimeout(l.ctx, probeTimeout)
	defer cancel()
	return l.Probe(ctx, api)
}

func outcomeOf(ctx context.Context, err error) breaker.Outcome {
	switch {
	case err == nil:
		return breaker.Made
	case client.MayHaveActed(err, client.EndpointGenerateToken):
		if ctx.Err() != nil {
			return breaker.CallerLeft
		}
		return breaker.Unknown
	case client.IsRefusal(err):
		return breaker.Refused
	}
	return breaker.NotSent
}

func (l *Ledger) endAttempt(api string, attempt *breaker.Attempt, result breaker.Outcome, err error) {
	if !attempt.End(result, err) {
		return
	}
	if result == breaker.Made {
		l.Logger.Info("KSeF makes tokens again", "api", api)
		l.reconciler.retry()
		return
	}
	l.Logger.Warn("no further tokens are asked for until KSeF answers again", "api", api, "error", err)
}

// Outages describes, in one sentence each, the APIs that do not reply to requests for tokens.
func (l *Ledger) Outages() []string {
	l.mu.Lock()
	breakers := maps.Clone(l.breakers)
	l.mu.Unlock()
	return sentences(breakers, (*breaker.Breaker).Describe)
}
