// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package unleased

import (
	"cmp"
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
	// notActiveYet is a Token's Warning.
	notActiveYet = "KSeF has not activated the token yet; until then it refuses a login with it"
)

// unanswered spaces such questions where KSeF does not answer them.
var unanswered = background.Backoff{Shortest: time.Minute, Longest: 10 * time.Minute}

// Token returns the token in force, from memory after the first time. It has the first one made
// where there is none. A static role's token is checked with KSeF before it is returned the first
// time since the start; where KSeF does not answer, or has not activated it, it is returned with a
// Warning, and KSeF is asked again. The caller has checked that the role exists and that its tokens
// are accepted: memory does not know. Errors: ErrNoRole, ErrEnded, a *WaitError after a failure,
// the ledger's and storage's.
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
// returns nil where there is none to hand out; dead then names one that KSeF or the storage says
// cannot be used.
func (h *Holders) load(ctx context.Context, holder *holder) (token *Token, dead Dead, err error) {
	if err := holder.loading.Acquire(ctx, 1); err != nil {
		return nil, Dead{}, fmt.Errorf("waiting for the token of %s: %w", holder.key, err)
	}
	defer holder.loading.Release(1)
	token, changes := h.inForce(holder)
	if token != nil {
		return token, Dead{}, nil
	}
	spec, err := h.Spec(ctx, holder.key)
	if err == nil {
		err = spec.usable()
	}
	if err != nil {
		return nil, Dead{}, err
	}
	stored, err := h.loadState(ctx, holder.key)
	if err != nil || !stored.ready(spec) {
		return nil, Dead{}, err
	}
	current := stored.Current
	secret, err := h.Ledger.Secret(ctx, current.ReferenceNumber)
	if err != nil {
		return nil, Dead{}, err
	}
	if secret == "" {
		return nil, Dead{ReferenceNumber: current.ReferenceNumber}, nil
	}
	warning, ended, err := h.check(ctx, holder, current, func() bool {
		return holder.changes == changes || holder.number == current.ReferenceNumber
	})
	if err != nil {
		return nil, Dead{}, err
	}
	if ended != nil {
		return nil, *ended, nil
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
	return token, Dead{}, nil
}

// ready says that the state has a token that can be handed out. For an access-token role that is
// one with the role's own permissions.
func (s *state) ready(spec *Spec) bool {
	if s == nil || s.Ending != "" || s.Current == nil || s.Current.Dead || !s.UnusedSince.IsZero() {
		return false
	}
	return s.Key.Kind == ledger.HolderStatic || s.Current.Fingerprint == spec.Fingerprint
}

// check asks KSeF once per start whether a static role's token is alive; dead is nil where it is,
// or may be. That of an access-token role is proven by its login. The answer is kept where
// isInForce, which is called with the mutex, says that the token still is.
func (h *Holders) check(ctx context.Context, holder *holder, current *named, isInForce func() bool) (warning string, dead *Dead, err error) {
	var checked string
	h.update(func() { checked = holder.checked })
	if holder.key.Kind != ledger.HolderStatic || checked == current.ReferenceNumber {
		return "", nil, nil
	}
	waitCtx, cancel := context.WithTimeout(ctx, statusMaxWait)
	defer cancel()
	status, err := h.Ledger.Status(waitCtx, current.Target, current.ReferenceNumber)
	if ctx.Err() != nil {
		return "", nil, fmt.Errorf("asking KSeF for the token of %s: %w", holder.key, ctx.Err())
	}
	late := status == client.StatusPending && time.Since(current.Made) >= pendingLife
	if err == nil && (status.Dead() || late) {
		return "", &Dead{current.ReferenceNumber, late || status == client.StatusFailed}, nil
	}
	switch {
	case err != nil:
		warning = fmt.Sprintf("KSeF was asked whether the token is still accepted, and did not answer: %v", err)
	case status == client.StatusPending:
		warning = notActiveYet
	}
	h.update(func() {
		switch {
		case !isInForce():
		case err != nil:
			holder.askAgain(unanswered.Exact(holder.unanswered))
			holder.unanswered++
		default:
			holder.learn(current, status)
		}
	})
	return warning, nil, nil
}

// learn records what KSeF says of the token in force. A static role's that is pending, since there
// was no other, is asked for again: KSeF may fail to activate it. The caller has the mutex.
func (h *holder) learn(token *named, status client.TokenStatus) {
	h.checked, h.recheck, h.unanswered = token.ReferenceNumber, time.Time{}, 0
	if h.awaits(status) {
		h.checked = ""
		h.askAgain(token.pause(time.Now()))
	}
}

// awaits says that a token in force with the status is asked for again.
func (h *holder) awaits(status client.TokenStatus) bool {
	return status == client.StatusPending && h.key.Kind == ledger.HolderStatic
}

// askAgain has Advance ask KSeF for the token in force after a pause. The caller has the mutex.
func (h *holder) askAgain(pause time.Duration) {
	// By the wall clock, as Advance goes.
	h.recheck = time.Now().Round(0).Add(pause)
	h.due = background.Earlier(h.due, h.recheck)
}

// obtain makes sure that there is a token to hand out. dead is one that must be replaced; zero for
// none.
func (c *change) obtain(ctx context.Context, dead Dead) error {
	s := c.state
	current := s.Current
	switch {
	case current == nil:
	case current.ReferenceNumber == dead.ReferenceNumber && !current.Dead:
		if err := c.markDead(ctx, dead); err != nil {
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

// checkCurrent is check for the token in force, which no other changes at the same time.
func (c *change) checkCurrent(ctx context.Context) (warning string, dead *Dead, err error) {
	warning, dead, err = c.check(ctx, c.holder, c.state.Current, func() bool { return true })
	if err != nil || dead != nil {
		return "", dead, err
	}
	c.update(func() {
		if token := c.holder.token; token != nil && token.ReferenceNumber == c.state.Current.ReferenceNumber {
			token.Warning = warning
		}
	})
	return warning, nil, nil
}

// markDead takes the token in force for one that must be replaced.
func (c *change) markDead(ctx context.Context, dead Dead) error {
	c.state.Current.Dead, c.state.Current.NeverActive = true, dead.NeverActive
	c.update(func() { c.holder.checked = "" })
	return c.save(ctx)
}

// isOutdated says that an access-token role has a token with other permissions than its own.
func (c *change) isOutdated() bool {
	return c.holder.key.Kind == ledger.HolderAccess && c.state.Current != nil && c.state.Current.Fingerprint != c.spec.Fingerprint
}

// current returns the token in force, with its text. One that KSeF must be asked for, and that is
// dead, is replaced.
func (c *change) current(ctx context.Context) (*Token, error) {
	if token, _ := c.inForce(c.holder); token != nil {
		return token, nil
	}
	if c.state.Current != nil && !c.state.Current.Dead {
		warning, dead, err := c.checkCurrent(ctx)
		if err != nil {
			return nil, err
		}
		if dead != nil {
			if err := c.obtain(ctx, *dead); err != nil {
				return nil, err
			}
		}
		c.warning = cmp.Or(warning, c.warning)
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
