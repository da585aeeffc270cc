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
)

// unusedLife is how long the token of an access-token role stays without use.
const unusedLife = 7 * 24 * time.Hour

// replaceInterval is the least time between two replacements of dead tokens of a holder: a reader
// can end the token behind an access-token role again and again.
const replaceInterval = 5 * time.Minute

// change is the work on one holder's state by one caller at a time.
type change struct {
	*Holders
	holder *holder
	// state is what is stored, or is to be.
	state *state
	// spec is nil where the role does not exist.
	spec *Spec
	// automatic says that no request has asked for the change.
	automatic bool
	// recorded says that a failure is recorded, and the next attempt planned.
	recorded bool
	// secret is the text of the token in force; "" where it was not read.
	secret client.Secret
	// warning is about the token in force.
	warning string
}

// change calls do with the holder's state, after what a deletion or a crash has left was finished.
func (h *Holders) change(ctx context.Context, key Key, automatic bool, do func(*change) error) error {
	holder := h.holder(key)
	release, err := h.lock(ctx, holder)
	if err != nil {
		return err
	}
	defer release()
	c := &change{Holders: h, holder: holder, automatic: automatic}
	if err := c.begin(ctx); err != nil {
		return err
	}
	return do(c)
}

func (c *change) begin(ctx context.Context) (err error) {
	if c.state, err = c.loadState(ctx, c.holder.key); err != nil {
		return err
	}
	if c.state != nil && c.state.Ending != "" {
		if _, err := c.finishEnding(ctx, nil); err != nil && !isPending(err) {
			return err
		}
		c.state = nil
	}
	if c.state == nil {
		c.state = newState(c.holder.key)
	}
	if c.spec, err = c.Spec(ctx, c.holder.key); err != nil {
		return err
	}
	return c.sweep(ctx)
}

func newState(key Key) *state { return &state{Version: stateVersion, Key: key} }

// usable returns why no token may be made or used; nil where one may.
func (s *Spec) usable() error {
	switch {
	case s == nil:
		return ErrNoRole
	case s.ended(time.Now()):
		return ErrEnded
	}
	return nil
}

func (s *Spec) ended(now time.Time) bool { return !s.Until.IsZero() && !now.Before(s.Until) }

func isPending(err error) bool { return errors.As(err, new(*ledger.PendingError)) }

// save stores the state and publishes it to memory. Where that fails it is not known which state is
// stored: the next change reads it and revokes the tokens that it does not name.
func (c *change) save(ctx context.Context) error {
	ctx, cancel := background.Detached(ctx)
	defer cancel()
	if err := c.putState(ctx, c.state); err != nil {
		c.update(func() {
			c.holder.token, c.holder.number, c.holder.sweep = nil, "", true
			c.holder.changes++
			c.holder.due = time.Now().Add(afterFailure.Shortest)
		})
		c.wake()
		return err
	}
	c.publish()
	return nil
}

// forget drops what memory has of a holder without a state.
func (c *change) forget() {
	c.update(func() {
		c.holder.changes++
		c.holder.token, c.holder.number, c.holder.troubles = nil, "", troubles{}
		c.holder.due, c.holder.recheck = time.Time{}, time.Time{}
	})
}

func (c *change) wake() {
	if !c.automatic {
		c.Wake()
	}
}

// publish puts the state into memory.
func (c *change) publish() {
	c.update(func() {
		c.holder.changes++
		c.holder.token, c.holder.number = c.shown(c.holder.token), c.state.currentNumber()
		c.holder.due = c.due(c.holder)
		c.holder.troubles = c.state.troubles()
	})
	c.wake()
}

// shown returns the token in force as callers see it; nil where there is none or its text is not
// known.
func (c *change) shown(before *Token) *Token {
	current := c.state.Current
	if current == nil || current.Dead || c.spec == nil || !c.state.UnusedSince.IsZero() {
		return nil
	}
	secret, warning := c.secret, c.warning
	if before != nil && before.ReferenceNumber == current.ReferenceNumber {
		secret, warning = before.Token, before.Warning
	}
	if secret == "" {
		return nil
	}
	return c.state.token(c.spec, secret, warning)
}

func (s *state) token(spec *Spec, secret client.Secret, warning string) *Token {
	current := s.Current
	return &Token{
		Token: secret, ReferenceNumber: current.ReferenceNumber, Target: current.Target, Permissions: slices.Clone(current.Permissions),
		Made: current.Made, LastRotation: s.LastRotation, NextRotation: s.nextRotation(spec), PreviousUntil: s.previousUntil(), Warning: warning,
	}
}

// due is when Advance has to do something; zero for never. The caller has the mutex.
func (c *change) due(holder *holder) time.Time {
	s, now := c.state, time.Now()
	if s.Ending != "" || c.spec == nil {
		return now
	}
	due := background.Earlier(c.spec.Until, holder.recheck)
	if holder.sweep {
		due = background.Earlier(due, now.Add(afterFailure.Shortest))
	}
	for _, before := range s.Previous {
		due = background.Earlier(due, before.Until)
	}
	if !s.UnusedSince.IsZero() && s.Current != nil {
		due = background.Earlier(due, s.UnusedSince.Add(unusedLife))
	}
	next := s.nextRotation(c.spec)
	if s.wantsToken(c.spec) {
		next = now
	}
	if !next.IsZero() {
		due = background.Earlier(due, later(next, s.mayTryAt(holder.retryNow)))
	}
	return due
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wantsToken says that another token is to be in force now.
func (s *state) wantsToken(spec *Spec) bool {
	switch {
	case s.Asked != nil || s.Pending != nil:
		return true
	case s.Current == nil:
		return s.Key.Kind == ledger.HolderStatic
	}
	return s.Current.Dead || s.Current.Fingerprint != spec.Fingerprint
}

// mayTryAt is when a token may be asked for, but by Rotate.
func (s *state) mayTryAt(retryNow bool) (at time.Time) {
	if !retryNow {
		at = s.RetryAt
	}
	if s.Current != nil && s.Current.Dead && !s.Replaced.IsZero() {
		at = later(at, s.Replaced.Add(replaceInterval))
	}
	return at
}

// mayTry returns a *WaitError where no token may be asked for yet.
func (c *change) mayTry() error {
	var retryNow bool
	var cause error
	c.update(func() { retryNow, cause = c.holder.retryNow, c.holder.err })
	next := c.state.mayTryAt(retryNow)
	if !time.Now().Before(next) {
		return nil
	}
	switch {
	case c.state.LastError == "":
		cause = fmt.Errorf("its token %s cannot be used, and the one before was replaced only at %s",
			c.state.currentNumber(), c.state.Replaced.UTC().Format(time.RFC3339))
	case cause == nil:
		cause = errors.New(c.state.LastError)
	}
	return &WaitError{Key: c.holder.key, Next: next, Err: cause}
}

// sweep revokes the tokens of the holder that the state does not name: a crash or a failed write
// has come between the token and the state. No rotation of the holder is in progress.
func (c *change) sweep(ctx context.Context) error {
	var needed bool
	c.update(func() { needed = c.holder.sweep })
	if !needed {
		return nil
	}
	records, err := c.Ledger.Unleased(ctx)
	if err != nil {
		return err
	}
	for _, referenceNumber := range c.unnamed(records) {
		err := c.Ledger.RevokeUnleased(ctx, referenceNumber, "it was never put in force")
		if err != nil && !isPending(err) {
			return err
		}
	}
	c.update(func() { c.holder.sweep = false })
	return nil
}

// unnamed returns the holder's live tokens that the state does not name.
func (c *change) unnamed(records []ledger.Record) (referenceNumbers []string) {
	named := c.state.names()
	for i := range records {
		record := &records[i]
		if record.State == ledger.Live && HolderOf(record) == c.holder.key && !slices.Contains(named, record.ReferenceNumber) {
			referenceNumbers = append(referenceNumbers, record.ReferenceNumber)
		}
	}
	return referenceNumbers
}
