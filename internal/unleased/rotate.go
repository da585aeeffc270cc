// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ledger"
	"vault-plugin-secrets-ksef/internal/ratelimit"
)

// withoutToken spaces the attempts of a holder that has no token to hand out.
var withoutToken = background.Backoff{Shortest: 5 * time.Second, Longest: 4 * time.Minute}

// pendingLife is how long KSeF may take to activate a token before another is made.
// longestPendingPause bounds the time between two questions for it.
const (
	pendingLife         = time.Hour
	longestPendingPause = 5 * time.Minute
)

// errNotActive says that a new token waits for KSeF.
var errNotActive = errors.New("KSeF has not activated the new token yet")

// RotateOptions say how to rotate.
type RotateOptions struct {
	// RevokePrevious revokes the tokens before at once, without grace.
	RevokePrevious bool `json:"revoke_previous,omitempty"`
	// KeepSchedule leaves the next rotation where it is.
	KeepSchedule bool `json:"keep_schedule,omitempty"`
}

// Rotate has a new token made and puts it in force. That is recorded first: where it fails, the
// token before stays in force and Advance tries again. A revocation that KSeF has not confirmed is
// a Warning. Errors are those of Token.
func (h *Holders) Rotate(ctx context.Context, key Key, options RotateOptions) (*Token, error) {
	return h.changeToken(ctx, key, func(c *change) error {
		c.state.Asked = &options
		if err := c.save(ctx); err != nil {
			return err
		}
		return c.rotate(ctx)
	})
}

// Apply applies a static role that was written: it has the first token made, rotates where the
// Fingerprint has changed, and plans the next rotation anew where the schedule has. After a failure
// Advance goes on. Errors are those of Token.
func (h *Holders) Apply(ctx context.Context, key Key) (*Token, error) {
	return h.changeToken(ctx, key, func(c *change) error {
		changed, err := c.state.replan(c.spec, time.Now())
		if err != nil {
			return err
		}
		if c.state.wantsToken(c.spec) {
			return c.rotate(ctx)
		}
		if c.state.Failures > 0 && !c.isTokenDue() {
			c.state.forgetFailures()
			changed = true
		}
		if changed {
			return c.save(ctx)
		}
		c.publish()
		return nil
	})
}

// Replace has another token made, since KSeF does not accept dead. Where another is in force
// already, it returns that. It makes one at most every five minutes, and returns a *WaitError until
// then. Other errors are those of Token.
func (h *Holders) Replace(ctx context.Context, key Key, dead Dead) (*Token, error) {
	return h.changeToken(ctx, key, func(c *change) error { return c.obtain(ctx, dead) })
}

// Import puts a token in force that was made elsewhere. The request's holder is set here. The role
// must exist. A repeated import of the token in force does nothing. Errors: ErrNoRole, ErrEnded,
// the ledger's (a *client.InputError where another holder has the token) and storage's.
func (h *Holders) Import(ctx context.Context, key Key, request ledger.ImportRequest) (*Token, error) {
	return h.changeToken(ctx, key, func(c *change) error {
		if pending := c.state.Pending; pending != nil && pending.Imported {
			if _, err := c.settleImport(ctx); err != nil {
				return err
			}
		}
		if c.state.currentNumber() == request.ReferenceNumber {
			return nil
		}
		return c.importToken(ctx, request)
	})
}

// changeToken returns the token in force after a change.
func (h *Holders) changeToken(ctx context.Context, key Key, do func(*change) error) (token *Token, err error) {
	err = h.change(ctx, key, false, func(c *change) error {
		if err := c.spec.usable(); err != nil {
			return err
		}
		if err := c.markUsed(ctx); err != nil {
			return err
		}
		if err := do(c); err != nil {
			return err
		}
		unconfirmed, err := c.revokeOver(ctx)
		if err != nil {
			c.Logger.Warn("a token before could not be revoked and will be tried again", "holder", key.String(), "error", err)
		}
		if token, err = c.current(ctx); err != nil {
			return err
		}
		if unconfirmed != nil {
			token.Warning = unconfirmed.Error()
		}
		return nil
	})
	return token, err
}

func (c *change) markUsed(ctx context.Context) error {
	if c.state.UnusedSince.IsZero() {
		return nil
	}
	c.state.UnusedSince = time.Time{}
	return c.save(ctx)
}

// rotate has a new token made and puts it in force.
func (c *change) rotate(ctx context.Context) error {
	wasImport := c.state.Pending != nil && c.state.Pending.Imported
	if settled, err := c.settlePending(ctx); settled || err != nil {
		return err
	}
	if wasImport && !c.state.wantsToken(c.spec) {
		return nil
	}
	if _, err := c.state.replan(c.spec, time.Now()); err != nil {
		return c.failed(ctx, err)
	}
	issued, err := c.Ledger.Issue(ctx, c.request)
	if err != nil {
		return c.failed(ctx, err)
	}
	record := issued.Record
	made := &named{
		ReferenceNumber: record.ReferenceNumber, Target: record.Target, Permissions: record.Permissions, Fingerprint: c.spec.Fingerprint,
		Made: record.Created, ValidUntil: record.ValidUntil,
	}
	if issued.Status == client.StatusPending && c.state.Current != nil && !c.state.Current.Dead {
		c.state.Pending = made
		return c.failed(ctx, errNotActive)
	}
	return c.putInForce(ctx, made, issued.Status, issued.Token)
}

func (c *change) request() (ledger.IssueRequest, error) {
	request, err := c.spec.Request()
	request.Holder = c.holder.key.holder()
	return request, err
}

// settlePending decides what becomes of the pending token. It returns true where that is in force
// now. Without an error and without a pending token, another may be made.
func (c *change) settlePending(ctx context.Context) (settled bool, err error) {
	pending := c.state.Pending
	switch {
	case pending == nil:
		return false, nil
	case pending.Imported:
		return c.settleImport(ctx)
	case pending.Fingerprint != c.spec.Fingerprint:
		return false, c.dropPending(ctx)
	}
	status, err := c.Ledger.Status(ctx, pending.Target, pending.ReferenceNumber)
	switch {
	case err != nil:
		return false, c.failed(ctx, err)
	case status == client.StatusPending && time.Since(pending.Made) < pendingLife:
		return false, c.failed(ctx, errNotActive)
	case status == client.StatusPending || status.Dead():
		return false, c.dropPending(ctx)
	}
	return true, c.putInForce(ctx, pending, status, "")
}

// settleImport finishes an import that a crash has stopped. Where the ledger has no record of the
// token, the import is as if it had not begun.
func (c *change) settleImport(ctx context.Context) (settled bool, err error) {
	records, err := c.Ledger.Unleased(ctx)
	if err != nil {
		return false, err
	}
	record := recordOf(records, c.state.Pending.ReferenceNumber)
	if record != nil && record.State == ledger.Live && HolderOf(record) == c.holder.key {
		return true, c.putInForce(ctx, c.state.Pending, client.StatusActive, "")
	}
	c.state.Pending = nil
	if !c.state.isEmpty() {
		return false, c.save(ctx)
	}
	if err := c.deleteState(ctx, c.holder.key); err != nil {
		return false, err
	}
	c.forget()
	return false, nil
}

// dropPending has the pending token revoked.
func (c *change) dropPending(ctx context.Context) error {
	c.state.Previous = append(c.state.Previous, previous{c.state.Pending.ReferenceNumber, time.Now().UTC()})
	c.state.Pending = nil
	return c.save(ctx)
}

// putInForce switches to a token that the ledger has, with one write. status is what KSeF says of
// it. secret is "" where it is read later.
func (c *change) putInForce(ctx context.Context, token *named, status client.TokenStatus, secret client.Secret) error {
	s, now := c.state, time.Now().UTC()
	event := Event{Kind: EventRotate, Key: c.holder.key, ReferenceNumber: token.ReferenceNumber, Automatic: c.automatic}
	grace := c.spec.Grace
	if s.Current != nil {
		event.Previous = s.Current.ReferenceNumber
		if s.Current.Dead {
			event.Kind, grace = EventReplace, 0
			s.Replaced, s.ReplacedToken, s.ReplacedNeverActive = now, s.Current.ReferenceNumber, s.Current.NeverActive
		}
	}
	s.retire(now.Add(grace))
	// One that is imported again is no longer to be revoked.
	s.Previous = slices.DeleteFunc(s.Previous, func(before previous) bool { return before.ReferenceNumber == token.ReferenceNumber })
	asked := RotateOptions{}
	if s.Asked != nil {
		asked = *s.Asked
	}
	if asked.RevokePrevious {
		s.endGraces(now)
	}
	kept := s.NextRotation
	s.Current, s.Pending, s.Asked = token, nil, nil
	s.LastRotation = now
	s.forgetFailures()
	if err := s.plan(c.spec, now); err != nil {
		return err
	}
	if asked.KeepSchedule && kept.After(now) {
		s.NextRotation = background.Earlier(kept, token.rotateBy())
	}
	c.secret = secret
	c.update(func() {
		c.holder.err, c.holder.retryNow = nil, false
		if c.holder.learn(token, status); c.holder.awaits(status) {
			c.warning = notActiveYet
		}
	})
	if err := c.save(ctx); err != nil {
		return err
	}
	c.OnEvent(event)
	return nil
}

// failed records why no token was put in force, and returns the cause.
func (c *change) failed(ctx context.Context, cause error) error {
	s := c.state
	// KSeF's limits may refuse attempts for hours: the first says so.
	var before error
	c.update(func() { before = c.holder.err })
	goesOn := isExhausted(cause) && isExhausted(before)
	postponed := ctx.Err() != nil || errors.Is(cause, ledger.ErrPaused) || errors.Is(cause, ledger.ErrUnmounting)
	// A caller that has left keeps no other from trying.
	if ctx.Err() == nil {
		s.RetryAt, s.LastError = s.nextAttempt(cause, postponed).UTC(), cause.Error()
		c.update(func() { c.holder.err, c.holder.retryNow = cause, false })
	}
	err := c.save(ctx)
	c.recorded = err == nil
	if !postponed && !errors.Is(cause, errNotActive) && !goesOn {
		c.OnEvent(Event{Kind: EventRotateFail, Key: c.holder.key, Previous: s.currentNumber(), Automatic: c.automatic, Err: cause})
	}
	return errors.Join(cause, err)
}

func isExhausted(err error) bool { return errors.As(err, new(*ratelimit.ExhaustedError)) }

// nextAttempt counts a failure and returns when to try again. The pause doubles only with failures
// of which nothing else says how long they last.
func (s *state) nextAttempt(cause error, postponed bool) time.Time {
	now, pace := time.Now(), afterFailure
	if s.Current == nil || s.Current.Dead {
		pace = withoutToken
	}
	var exhausted *ratelimit.ExhaustedError
	switch {
	case postponed:
		return now.Add(pace.Jittered(max(0, s.Failures-1)))
	case errors.Is(cause, errNotActive):
		s.Failures = 1
		return now.Add(s.Pending.pause(now))
	case errors.As(cause, &exhausted):
		s.Failures = max(1, s.Failures)
		return later(now, exhausted.Next).Add(pace.Jittered(0))
	}
	s.Failures++
	return now.Add(pace.Jittered(s.Failures - 1))
}

// pause is the time until KSeF is asked again for a pending token: as long as it has waited.
func (n *named) pause(now time.Time) time.Duration {
	return min(max(now.Sub(n.Made), afterFailure.Shortest), longestPendingPause)
}

func (s *state) forgetFailures() { s.Failures, s.RetryAt, s.LastError = 0, time.Time{}, "" }

func (s *state) currentNumber() string {
	if s.Current == nil {
		return ""
	}
	return s.Current.ReferenceNumber
}

// importToken names the token in the state before the ledger has it, so that no sweep takes it for
// one that was never put in force.
func (c *change) importToken(ctx context.Context, request ledger.ImportRequest) error {
	if c.state.Pending != nil {
		if err := c.dropPending(ctx); err != nil {
			return err
		}
	}
	if _, err := c.state.replan(c.spec, time.Now()); err != nil {
		return err
	}
	imported := &named{
		ReferenceNumber: request.ReferenceNumber, Target: request.Target, Permissions: request.Permissions, Fingerprint: c.spec.Fingerprint,
		Made: request.Created.UTC(), ValidUntil: request.ValidUntil, Imported: true,
	}
	c.state.Pending = imported
	if err := c.save(ctx); err != nil {
		return err
	}
	request.Holder = c.holder.key.holder()
	if err := c.Ledger.Import(ctx, request); err != nil {
		ctx, cancel := background.Detached(ctx)
		defer cancel()
		_, undone := c.settleImport(ctx)
		return errors.Join(err, undone)
	}
	return c.putInForce(ctx, imported, client.StatusActive, request.Token)
}

// isEmpty says that the holder never had a token.
func (s *state) isEmpty() bool {
	return s.Current == nil && len(s.Previous) == 0 && s.LastRotation.IsZero() && s.Failures == 0 && s.Asked == nil
}

// revokeOver revokes the tokens before whose grace is over. unconfirmed is a *ledger.PendingError
// where the ledger goes on with a revocation.
func (c *change) revokeOver(ctx context.Context) (unconfirmed, err error) {
	var left []previous
	for _, before := range c.state.Previous {
		if err != nil || time.Now().Before(before.Until) {
			left = append(left, before)
			continue
		}
		revoked := c.Ledger.RevokeUnleased(ctx, before.ReferenceNumber, "it was replaced")
		switch {
		case revoked == nil:
		case isPending(revoked):
			unconfirmed = errors.Join(unconfirmed, revoked)
		default:
			left, err = append(left, before), fmt.Errorf("revoking %s: %w", before.ReferenceNumber, revoked)
		}
	}
	if len(left) == len(c.state.Previous) {
		return unconfirmed, err
	}
	c.state.Previous = left
	return unconfirmed, errors.Join(err, c.save(ctx))
}
