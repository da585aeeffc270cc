// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"

	"vault-plugin-secrets-ksef/internal/background"
)

// revokeToken has KSeF revoke the task's token. nil means that KSeF has confirmed it, by a 204 or
// by the token's status, and that the ledger says so.
func (p *reconciler) revokeToken(ctx context.Context, api Upstream, task *task) error {
	record := task.snapshot()
	err := p.revokeUpstream(ctx, api, &record)
	var unknown *unknownError
	switch {
	case errors.As(err, &unknown):
		err = p.settleUnknown(ctx, api, task, unknown)
	case err != nil && scopeOf(err) == ofTask:
		err = errors.Join(err, p.rememberUnknown(ctx, task, Unknown{}))
	}
	if err != nil {
		return err
	}
	p.markDead(ctx, task)
	return nil
}

// revokeUpstream has KSeF revoke a token. nil means that KSeF has confirmed it.
func (p *reconciler) revokeUpstream(ctx context.Context, api Upstream, record *Record) error {
	err := api.RevokeToken(ctx, record.ReferenceNumber)
	if err == nil || scopeOf(err) != ofTask && !isUnclear(err) {
		return err
	}
	return p.confirm(ctx, api, record, err)
}

// confirm decides by the token's status after a DELETE that was refused or whose reply was lost:
// KSeF has no answer that would say "already revoked".
func (p *reconciler) confirm(ctx context.Context, api Upstream, record *Record, cause error) error {
	token, err := api.Token(ctx, record.ReferenceNumber)
	switch {
	case err == nil && token.Status.Dead():
		return nil
	case err == nil && scopeOf(cause) == ofTask:
		return &taskError{fmt.Errorf("the token %s is still %s: %w", record.ReferenceNumber, token.Status, cause)}
	case err == nil:
		return cause
	case isUnknown(err):
		return &unknownError{fmt.Errorf("KSeF does not know the token %s: %w; and, asked for its status: %w", record.ReferenceNumber, cause, err)}
	case scopeOf(err) == ofTask && scopeOf(cause) == ofTask:
		return &taskError{fmt.Errorf("KSeF neither revokes the token %s nor tells its status: %w; and, asked for its status: %w", record.ReferenceNumber, cause, err)}
	case scopeOf(err) == ofTask:
		return cause
	}
	// What KSeF said of the DELETE decides nothing: the token may be dead. So cause is text alone.
	return fmt.Errorf("%s, and the token's status could not be asked for: %w", cause.Error(), err)
}

// markDead records that a token is dead. With its lease waiting no record is needed; otherwise one
// stays, so that the lease can end without asking KSeF again. A failure here leaves a record that
// leads to the same end later.
func (p *reconciler) markDead(ctx context.Context, task *task) {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	record, collected := task.markDead()
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
