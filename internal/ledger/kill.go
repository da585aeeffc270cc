// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/internal/detach"
)

// kill has KSeF revoke the job's token. nil means that KSeF has confirmed it,
// by a 204 or by the token's status, and that the ledger says so.
func (p *pump) kill(ctx context.Context, api Upstream, job *job) error {
	record := job.snapshot()
	err := p.revokeUpstream(ctx, api, &record)
	var unknown *unknownError
	switch {
	case errors.As(err, &unknown):
		err = p.settleUnknown(ctx, api, job, unknown)
	case err != nil && scopeOf(err) == ofJob:
		err = errors.Join(err, p.rememberUnknown(ctx, job, Unknown{}))
	}
	if err != nil {
		return err
	}
	p.bury(ctx, job)
	return nil
}

// revokeUpstream has KSeF revoke a token. nil means that KSeF has confirmed it.
func (p *pump) revokeUpstream(ctx context.Context, api Upstream, record *Record) error {
	err := api.RevokeToken(ctx, record.ReferenceNumber)
	if err == nil || scopeOf(err) != ofJob && !isUnclear(err) {
		return err
	}
	return p.confirm(ctx, api, record, err)
}

// confirm decides by the token's status after a DELETE that was refused or
// whose reply was lost: KSeF has no answer that would say "already revoked".
func (p *pump) confirm(ctx context.Context, api Upstream, record *Record, cause error) error {
	token, err := api.Token(ctx, record.ReferenceNumber)
	switch {
	case err == nil && token.Status.Dead():
		return nil
	case err == nil && scopeOf(cause) == ofJob:
		return &jobError{fmt.Errorf("the token %s is still %s: %w", record.ReferenceNumber, token.Status, cause)}
	case err == nil:
		return cause
	case isUnknown(err):
		return &unknownError{fmt.Errorf("KSeF does not know the token %s: %w; and, asked for its status: %w", record.ReferenceNumber, cause, err)}
	case scopeOf(err) == ofJob && scopeOf(cause) == ofJob:
		return &jobError{fmt.Errorf("KSeF neither revokes the token %s nor tells its status: %w; and, asked for its status: %w", record.ReferenceNumber, cause, err)}
	case scopeOf(err) == ofJob:
		return cause
	}
	// What KSeF said of the DELETE decides nothing: the token may be dead. So cause is text alone.
	return fmt.Errorf("%s, and the token's status could not be asked for: %w", cause.Error(), err)
}

// bury records that a token is dead. With its lease waiting no record is
// needed; otherwise one stays, so that the lease can end without asking KSeF
// again. A failure here leaves a record that leads to the same end later.
func (p *pump) bury(ctx context.Context, job *job) {
	ctx, cancel := detach.From(ctx)
	defer cancel()
	record, collected := job.die()
	live := liveKey(record.Nonce, record.ReferenceNumber)
	var err error
	if collected {
		err = p.ledger.store.remove(ctx, live, endingKey(record.ReferenceNumber))
	} else if err = p.ledger.store.put(ctx, &record); err == nil {
		err = p.ledger.store.remove(ctx, live)
	}
	if err != nil {
		p.ledger.Logger.Warn("a dead token's record could not be brought up to date", "reference_number", record.ReferenceNumber, "error", err)
	}
	p.ledger.OnEvent(Event{Kind: EventRevoke, Record: record})
}
