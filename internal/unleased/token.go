// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"context"
	"fmt"
	"time"

	"vault-plugin-secrets-ksef/client"
	"vault-plugin-secrets-ksef/internal/background"
	"vault-plugin-secrets-ksef/internal/ledger"
)

const (
	// statusMaxWait bounds the question whether a token is alive, before it is handed out.
	statusMaxWait = 5 * time.Second
	// recheckPause is the time between two such questions where KSeF does not answer.
	recheckPause = time.Minute
)

// Token returns the token in force, from memory after the first time. It has the first one made
// where there is none. A static role's token is checked with KSeF before it is returned the first
// time since the start; where KSeF does not answer, it is returned with a Warning. The caller has
// checked that the role exists and that its tokens are accepted: memory does not know. Errors:
// ErrNoRole, ErrEnded, a *WaitError after a failure, the ledger's and storage's.
func (h *Holders) Token(ctx context.Context, key Key) (*Token, error) {
	holder := h.holder(key)
	if token, _ := h.inForce(holder); token != nil {
		return token, nil
	}
	token, dead, err := h.load(ctx, holder)
	if token != nil || err != nil {
		return token, err
	}
	return h.Replace(ctx, key, dead)
}

// load reads the token in force, one caller at a time, while a rotation may be in progress. It
// returns nil where there is none to hand out; dead is then its number where KSeF or the storage
// says so.
func (h *Holders) load(ctx context.Context, holder *holder) (token *Token, dead string, err error) {
	if err := holder.loading.Acquire(ctx, 1); err != nil {
		return nil, "", fmt.Errorf("waiting for the token of %s: %w", holder.key, err)
	}
	defer holder.loading.Release(1)
	token, changes := h.inForce(holder)
	if token != nil {
		return token, "", nil
	}
	spec, err := h.Spec(ctx, holder.key)
	if err == nil {
		err = spec.usable()
	}
	if err != nil {
		return nil, "", err
	}
	stored, err := h.loadState(ctx, holder.key)
	if err != nil || !stored.ready(spec) {
		return nil, "", err
	}
	current := stored.Current
	secret, err := h.Ledger.Secret(ctx, current.ReferenceNumber)
	if err != nil {
		return nil, "", err
	}
	if secret == "" {
		return nil, current.ReferenceNumber, nil
	}
	warning, alive, err := h.check(ctx, holder, current)
	if err != nil {
		return nil, "", err
	}
	if !alive {
		return nil, current.ReferenceNumber, nil
	}
	if warning != "" {
		h.Wake()
	}
	token = stored.token(spec, secret, warning)
	h.update(func() {
		if holder.changes == changes {
			holder.token = new(*token)
		}
	})
	return token, "", nil
}

// ready says that the state has a token that can be handed out. For an access-token role that is
// one with the role's own permissions.
func (s *state) ready(spec *Spec) bool {
	if s == nil || s.Ending != "" || s.Current == nil || s.Current.Dead || !s.UnusedSince.IsZero() {
		return false
	}
	return s.Key.Kind == ledger.HolderStatic || s.Current.Fingerprint == spec.Fingerprint
}

// check asks KSeF once per start whether a static role's token is alive. That of an access-token
// role is proven by its login.
func (h *Holders) check(ctx context.Context, holder *holder, current *named) (warning string, alive bool, err error) {
	var checked string
	h.update(func() { checked = holder.checked })
	if holder.key.Kind != ledger.HolderStatic || checked == current.ReferenceNumber {
		return "", true, nil
	}
	waitCtx, cancel := context.WithTimeout(ctx, statusMaxWait)
	defer cancel()
	status, err := h.Ledger.Status(waitCtx, current.Target, current.ReferenceNumber)
	if ctx.Err() != nil {
		return "", false, fmt.Errorf("asking KSeF for the token of %s: %w", holder.key, ctx.Err())
	}
	if err != nil {
		h.update(func() {
			holder.recheck = time.Now().Add(recheckPause)
			holder.due = background.Earlier(holder.due, holder.recheck)
		})
		return fmt.Sprintf("KSeF was asked whether the token is still accepted, and did not answer: %v", err), true, nil
	}
	if status.Dead() || (status == client.StatusPending && time.Since(current.Made) >= pendingLife) {
		return "", false, nil
	}
	h.update(func() { warning = holder.learn(current, status) })
	return warning, true, nil
}

// learn records what KSeF says of the token in force. A static role's that is pending, since there
// was no other, is asked for again: KSeF may fail to activate it. The caller has the mutex.
func (h *holder) learn(token *named, status client.TokenStatus) (warning string) {
	h.checked, h.recheck = token.ReferenceNumber, time.Time{}
	if status != client.StatusPending || h.key.Kind != ledger.HolderStatic {
		return ""
	}
	now := time.Now()
	h.checked, h.recheck = "", now.Add(token.pause(now))
	h.due = background.Earlier(h.due, h.recheck)
	return "KSeF has not activated the token yet; until then it refuses a login with it"
}

// obtain makes sure that there is a token to hand out. dead is the number of one that must be
// replaced; "" for none.
func (c *change) obtain(ctx context.Context, dead string) error {
	s := c.state
	current := s.Current
	switch {
	case current == nil:
	case current.ReferenceNumber == dead && !current.Dead:
		current.Dead = true
		c.update(func() { c.holder.checked = "" })
		if err := c.save(ctx); err != nil {
			return err
		}
	case c.isOutdated():
		s.retire(time.Now())
		if err := c.save(ctx); err != nil {
			return err
		}
	}
	if s.Current != nil && !s.Current.Dead {
		return nil
	}
	if err := c.mayTry(); err != nil {
		return err
	}
	return c.rotate(ctx)
}

// isOutdated says that an access-token role has a token with other permissions than its own.
func (c *change) isOutdated() bool {
	return c.holder.key.Kind == ledger.HolderAccess && c.state.Current != nil && c.state.Current.Fingerprint != c.spec.Fingerprint
}

// current returns the token in force, with its text.
func (c *change) current(ctx context.Context) (*Token, error) {
	if token, _ := c.inForce(c.holder); token != nil {
		return token, nil
	}
	if err := c.readSecret(ctx); err != nil {
		return nil, err
	}
	c.publish()
	if token, _ := c.inForce(c.holder); token != nil {
		return token, nil
	}
	return nil, fmt.Errorf("the text of the token %s of %s is not stored; read it again to have the token replaced", c.state.currentNumber(), c.holder.key)
}

func (c *change) readSecret(ctx context.Context) (err error) {
	if c.secret == "" && c.state.Current != nil {
		c.secret, err = c.Ledger.Secret(ctx, c.state.Current.ReferenceNumber)
	}
	return err
}
